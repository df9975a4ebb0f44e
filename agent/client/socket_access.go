package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// AccessError says that the file system keeps this user from the agent's socket: the agent was not asked. It is the cause of an
// *Error whose Reason is PERMISSION_DENIED.
type AccessError struct {
	Socket string // path of it
	Path   string // what lets this user not through: the socket, or a directory above it
	Owner  string // of Path: name, else number
	// Group is the one whose members may connect, by name, else number; empty when joining one does not help.
	Group string
	User  string // who was kept out: name, else number
	// Joined is true when the user is in Group by now, but was not yet when this process' session began.
	Joined bool
	Err    error // the system's
}

func (e *AccessError) Error() string {
	through := ""
	if e.Path != e.Socket {
		through = fmt.Sprintf("cannot pass through %q: ", e.Path)
	}
	return fmt.Sprintf("cannot reach the agent at %q: %s%v", e.Socket, through, e.Err)
}

// Unwrap is the system's error: errors.Is(err, fs.ErrPermission) is true.
func (e *AccessError) Unwrap() error { return e.Err }

// Remedy is what the user can do, as part of a sentence.
func (e *AccessError) Remedy() string {
	switch {
	case e.Joined:
		return fmt.Sprintf("%s is in group %q since after this login; log in anew, or run `newgrp %s`", e.User, e.Group, e.Group)
	case e.Group != "":
		return fmt.Sprintf("join group %q (`sudo usermod -aG %s %s`, then log in anew)", e.Group, e.Group, e.User)
	}
	return fmt.Sprintf("it belongs to user %q alone; ask its owner for access", e.Owner)
}

// asError is the *Error of a refused connection.
func (e *AccessError) asError() *Error {
	return &Error{Reason: PermissionDenied, Code: codes.PermissionDenied, Message: e.Error() + "; " + e.Remedy(), cause: e}
}

// keptOut looks at the files why connecting to path was refused; nil when err is no refusal of the file system.
func keptOut(path string, err error) *AccessError {
	if !errors.Is(err, fs.ErrPermission) {
		return nil
	}
	e := &AccessError{Socket: path, Path: path, User: userName(os.Geteuid()), Err: plainCause(err)}
	info, statErr := os.Stat(path)
	for errors.Is(statErr, fs.ErrPermission) && e.Path != filepath.Dir(e.Path) { // what lets nobody through is above
		e.Path = filepath.Dir(e.Path)
		info, statErr = os.Stat(e.Path)
	}
	uid, gid, known := ownersOf(info)
	if statErr != nil || !known {
		return e
	}
	e.Owner = userName(uid)
	need := fs.FileMode(0o020) // of a socket: write
	if info.IsDir() {
		need = 0o010
	}
	if info.Mode()&need == 0 || gid == 0 { // nobody is to join the group of root
		return e
	}
	if own, err := os.Getgroups(); err == nil && (slices.Contains(own, gid) || gid == os.Getegid()) {
		return e
	}
	e.Group = groupName(gid)
	e.Joined = inGroup(os.Geteuid(), gid)
	return e
}

// plainCause is the system's word without what Go puts around it: the path is said already.
func plainCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

func groupName(gid int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
		return g.Name
	}
	return strconv.Itoa(gid)
}

// inGroup is what the group file says now; a process keeps the groups that it was started with.
func inGroup(uid, gid int) bool {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return false
	}
	groups, err := u.GroupIds()
	return err == nil && slices.Contains(groups, strconv.Itoa(gid))
}

// dialer connects to one socket and remembers whether the last try was refused by the file system, which gRPC's status of the call
// does not tell from an agent that is not there.
type dialer struct {
	path    string
	refusal atomic.Pointer[AccessError] // nil unless the last try was refused
}

func (d *dialer) dial(ctx context.Context, _ string) (net.Conn, error) {
	var plain net.Dialer
	conn, err := plain.DialContext(ctx, "unix", d.path)
	d.refusal.Store(keptOut(d.path, err))
	return conn, err
}

// tell is err, or the refusal which is behind it.
func (d *dialer) tell(err error) error {
	if refusal := d.refusal.Load(); refusal != nil && status.Code(err) == codes.Unavailable {
		return refusal.asError()
	}
	return err
}

func (d *dialer) unary(ctx context.Context, method string, in, out any, conn *grpc.ClientConn, call grpc.UnaryInvoker, options ...grpc.CallOption) error {
	return d.tell(call(ctx, method, in, out, conn, options...))
}

func (d *dialer) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, conn, method, options...)
	return stream, d.tell(err)
}
