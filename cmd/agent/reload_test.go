package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// connectAs connects as another user: the kernel takes the credentials of the thread that connects, and this thread gets its own back.
func connectAs(uid int, path string) (net.Conn, error) {
	runtime.LockOSThread() // and it never is unlocked if it could not get them back: then it ends with its goroutine
	root := uintptr(os.Geteuid())
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), root); e != 0 {
		return nil, e
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), root, root); e == 0 {
		runtime.UnlockOSThread()
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	return net.FileConn(f)
}

// TestReloadChangesWhoMayCome: access: decides anew for new connections and for the next request of an old one, the socket's mode
// follows, and names that are not there change nothing.
func TestReloadChangesWhoMayCome(t *testing.T) {
	h := shared(t, "{}")
	socket := h.path("pitboss/agent.sock")
	look := func() ended { return h.finish(as(h.command("pitboss", "--socket", socket, "status"), others)) }
	reload := func(access string) ended {
		t.Helper()
		must(t, os.WriteFile(h.path("pitboss.yaml"), []byte("access: "+access+"\n"+onePool), 0o644))
		return h.pitboss("reload")
	}
	look().want(t, 77, "permission denied")
	if e := reload("{clients: {groups: [54321]}}"); e.code != 0 || e.stdout != "access.clients.groups: decides from the next request on\n" {
		t.Fatalf("%+v", e)
	}
	if mode, group := h.socketMode(); mode != 0o660 || group != others {
		t.Errorf("the socket has mode %o and group %d", mode, group)
	}
	look().want(t, 0)
	reload("{clients: {users: [no-such-user]}}").want(t, 78, "nothing was changed", `user "no-such-user" is not in /etc/passwd`)
	look().want(t, 0)
	if e := reload("{clients: {users: [nobody]}}"); e.code != 0 || !strings.Contains(e.stdout, "access.clients.users, access.clients.groups: decides") {
		t.Fatalf("%+v", e)
	}
	if mode, _ := h.socketMode(); mode != 0o666 {
		t.Errorf("the socket has mode %o", mode)
	}

	held, err := grpc.NewClient("passthrough:///held", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return connectAs(nobody, socket) }))
	must(t, err)
	t.Cleanup(func() { _ = held.Close() })
	call := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := pb.NewPoolClient(held).Call(ctx, &pb.CallRequest{Tool: "add", Json: `{"a":1,"b":2}`})
		return err
	}
	must(t, call())
	if _, err := pb.NewAdminClient(held).Stop(t.Context(), &pb.StopRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Fatalf("the connection is not nobody's: %v", err)
	}
	if e := reload("{viewers: {users: [nobody]}}"); e.code != 0 {
		t.Fatalf("%+v", e)
	}
	if err := call(); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "user 65534 is viewer") {
		t.Errorf("a call on the old connection: %v", err)
	}
	look().want(t, 0)
	if e := reload("{}"); e.code != 0 {
		t.Fatalf("%+v", e)
	}
	if mode, _ := h.socketMode(); mode != 0o600 {
		t.Errorf("the socket has mode %o", mode)
	}
	look().want(t, 77, "permission denied")
	if err := call(); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "user 65534 has none") {
		t.Errorf("a call on the old connection: %v", err)
	}
	h.pitboss("status").want(t, 0)
}

// TestReloadLengthensTheRecordedGrace: the next run waits by run.jsonl, so it has the longest grace that any keeper may give; who lives
// is still in it.
func TestReloadLengthensTheRecordedGrace(t *testing.T) {
	h := newHost(t)
	s := h.serve(onePool)
	found, err := filepath.Glob(h.path("pitboss/*/run.jsonl"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%q %v", found, err)
	}
	record := func() (graceMS int64, pids map[int]bool) {
		f, err := os.Open(found[0])
		must(t, err)
		defer f.Close()
		pids = map[int]bool{}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var line struct {
				GraceMS int64 `json:"grace_ms"`
				PID     int   `json:"pid"`
			}
			must(t, json.Unmarshal(lines.Bytes(), &line))
			graceMS = max(graceMS, line.GraceMS)
			pids[line.PID] = true
		}
		return graceMS, pids
	}
	for _, c := range []struct {
		kill string
		ms   int64
	}{{"300ms", 300}, {"2s", 2000}, {"400ms", 2000}} { // a worker with the longer one may still be ending
		must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(strings.Replace(onePool, "kill: 300ms", "kill: "+c.kill, 1)), 0o644))
		h.pitboss("reload").want(t, 0)
		s.awaitReady()
		st, _ := s.status()
		ms, pids := record()
		if worker := st.Pools[0].Workers[0].PID; ms != c.ms || !pids[worker] {
			t.Errorf("kill %s: the record says %d ms, and %v with the worker %d", c.kill, ms, pids, worker)
		}
	}
	if left, _ := filepath.Glob(h.path("pitboss/*/run.jsonl*")); len(left) != 1 {
		t.Errorf("%q are left", left)
	}
}

// TestReloadBringsTheFirstPool: as in the service of a fresh package, which starts with none.
func TestReloadBringsTheFirstPool(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte("pools: []\n"), 0o644))
	h.start(h.command("pitboss", "agent", "--config", "pitboss.yaml"))
	h.await("up", func() bool { _, ok := h.status(); return ok })
	h.pitboss("call", "add", "a=1", "b=2").want(t, exitUsage, "no pool is configured")
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(onePool), 0o644))
	h.pitboss("reload").want(t, 0)
	h.pitboss("wait").want(t, 0)
	if e := h.pitboss("call", "size", "data=@tools.py"); e.code != 0 {
		t.Errorf("%+v", e)
	}
}
