package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/pitboss-run/pitboss/ipc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/tap"
)

// role is a set of what a peer may be, or of who may use a method.
type role uint8

const (
	roleClient role = 1 << iota // calls tools
	roleViewer                  // looks at everything
	roleAdmin                   // acts on the agent
)

const (
	anyRole = roleClient | roleViewer | roleAdmin
	callers = roleClient | roleAdmin
	lookers = roleViewer | roleAdmin
)

// methodRoles says for every method of the API who may use it. A method that is not here is the admins' alone.
var methodRoles = map[string]role{
	"/pitboss.v1.Pool/Call":         callers,
	"/pitboss.v1.Pool/CallStream":   callers,
	"/pitboss.v1.Pool/ListTools":    anyRole,
	"/pitboss.v1.Admin/Status":      anyRole,
	"/pitboss.v1.Admin/Ping":        anyRole,
	"/pitboss.v1.Admin/ListCalls":   lookers,
	"/pitboss.v1.Admin/Explain":     lookers,
	"/pitboss.v1.Admin/WatchEvents": lookers,
	"/pitboss.v1.Admin/WatchLogs":   lookers,
	"/pitboss.v1.Admin/CancelCall":  roleAdmin,
	"/pitboss.v1.Admin/Stack":       roleAdmin, // it interrupts the worker
	"/pitboss.v1.Admin/Restart":     roleAdmin,
	"/pitboss.v1.Admin/Drain":       roleAdmin,
	"/pitboss.v1.Admin/Resume":      roleAdmin,
	"/pitboss.v1.Admin/Scale":       roleAdmin,
	"/pitboss.v1.Admin/Reload":      roleAdmin,
	"/pitboss.v1.Admin/Stop":        roleAdmin,

	"/grpc.health.v1.Health/Check": anyRole,
	"/grpc.health.v1.Health/List":  anyRole,
	"/grpc.health.v1.Health/Watch": anyRole,

	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      anyRole,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": anyRole,
}

func (r role) String() string {
	var names []string
	for i, name := range []string{"client", "viewer", "admin"} {
		if r&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " or ")
}

// access decides by the peer's credentials, which the kernel took when it connected, and by the lists of the moment, which a
// reload replaces.
type access struct{ now atomic.Pointer[accessLists] }

// accessLists is who may what; it never changes.
type accessLists struct {
	config AccessConfig
	own    uint32
	users  map[uint32]role
	groups map[uint32]role
}

// newAccess decides by these lists until they are replaced.
func newAccess(c AccessConfig) (*access, error) {
	lists, err := lookUpLists(c)
	if err != nil {
		return nil, err
	}
	a := &access{}
	a.now.Store(lists)
	return a, nil
}

// lookUpLists looks up every name of the lists.
func lookUpLists(c AccessConfig) (*accessLists, error) {
	a := &accessLists{config: c, own: uint32(os.Geteuid()), users: map[uint32]role{}, groups: map[uint32]role{}}
	for _, l := range c.lists() {
		for _, name := range l.list.Users {
			id, err := lookUpUser(name)
			if err != nil {
				return nil, fmt.Errorf("cannot read access.%s.users: %w", l.key, err)
			}
			a.users[id] |= l.role
		}
		for _, name := range l.list.Groups {
			id, err := lookUpGroup(name)
			if err != nil {
				return nil, fmt.Errorf("cannot read access.%s.groups: %w", l.key, err)
			}
			a.groups[id] |= l.role
		}
	}
	return a, nil
}

// roles is everything that a peer may be.
func (a *accessLists) roles(p peerCredentials) role {
	if p.UID == 0 || p.UID == a.own {
		return anyRole
	}
	r := a.users[p.UID] | a.groups[p.GID]
	for _, g := range p.Groups {
		r |= a.groups[g]
	}
	return r
}

// tap refuses a call before its stream exists: who may not call cannot make the agent read a payload.
func (a *access) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return ctx, statusOf(failf(Internal, "the connection has no peer"))
	}
	cred, ok := p.AuthInfo.(peerCredentials)
	if !ok {
		return ctx, statusOf(failf(Internal, "the connection has no peer credentials"))
	}
	if e := a.now.Load().decide(cred, info.FullMethodName); e != nil {
		return ctx, statusOf(e)
	}
	return ctx, nil
}

func (a *accessLists) decide(cred peerCredentials, method string) *Error {
	need, listed := methodRoles[method]
	if !listed {
		need = roleAdmin
	}
	have := a.roles(cred)
	if have&need != 0 {
		return nil
	}
	is := "has none"
	if have != 0 {
		is = "is " + strings.ReplaceAll(have.String(), " or ", " and ")
	}
	name := method[strings.LastIndexByte(method, '/')+1:]
	return failf(PermissionDenied, "%s needs the role %s, and user %s %s; %s", name, need, userName(cred.UID), is, a.remedy(need))
}

// remedy names the lists that would allow it, and the groups that are in them already.
func (a *accessLists) remedy(need role) string {
	var keys, groups []string
	for _, l := range slices.Backward(a.config.lists()) { // the weakest role that is enough comes first
		if need&l.role == 0 {
			continue
		}
		keys = append(keys, "access."+l.key)
		for _, g := range l.list.Groups {
			groups = append(groups, strconv.Quote(g))
		}
	}
	lists := "being in " + strings.Join(keys, " or ") + " of the agent's configuration"
	if len(groups) == 0 {
		return lists + " would allow it"
	}
	return "being in group " + strings.Join(groups, " or ") + ", or " + strings.TrimPrefix(lists, "being ") + ", would allow it"
}

func userName(uid uint32) string {
	return strconv.FormatUint(uint64(uid), 10)
}

// peerCredentials is what the kernel says of a connection's other end. It is gRPC's AuthInfo of every connection.
type peerCredentials struct {
	ipc.Cred
	Groups []uint32
	load   *connLoad // of the connection
}

// AuthType names the kind of these credentials.
func (peerCredentials) AuthType() string { return "SO_PEERCRED" }
