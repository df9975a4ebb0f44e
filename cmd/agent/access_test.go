package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// nobody is a user and group of no privileges, and others is a group that nobody is in by itself.
const (
	nobody = 65534
	others = 54321
)

// as makes the command one of the user nobody with these supplementary groups.
func as(c *exec.Cmd, groups ...uint32) *exec.Cmd {
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: groups}}
	return c
}

// needRoot: these tests run clients as another user, which only root can.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("run this test as root: it starts clients as another user")
	}
}

// shared is a root's agent whose socket others may reach.
func shared(t *testing.T, access string) *host {
	t.Helper()
	needRoot(t)
	h := newHost(t)
	must(t, os.Chmod(h.dir, 0o711))
	h.serve("access: " + access + "\n" + onePool)
	return h
}

func (h *host) socketMode() (os.FileMode, uint32) {
	h.t.Helper()
	info, err := os.Stat(h.path("pitboss/agent.sock"))
	must(h.t, err)
	return info.Mode().Perm(), info.Sys().(*syscall.Stat_t).Gid
}

// TestAnotherUserIsKeptOut by default: the file's mode refuses before the agent is asked.
func TestAnotherUserIsKeptOut(t *testing.T) {
	h := shared(t, "{}")
	if mode, _ := h.socketMode(); mode != 0o600 {
		t.Errorf("the socket has mode %o", mode)
	}
	must(t, os.Chmod(h.path("pitboss"), 0o711)) // even where the directory lets them through
	for _, args := range [][]string{{"status"}, {"call", "add", "a=1", "b=2"}, {"stop"}, {"health"}, {"wait"}} {
		line := append([]string{"--socket", h.path("pitboss/agent.sock")}, args...)
		h.finish(as(h.command("pitboss", line...))).want(t, 77, "permission denied", `it belongs to user "root" alone; ask its owner for access`)
		h.finish(as(h.command("pitboss", line...), others)).want(t, 77, "!usermod")
	}
	// A socket that somebody has opened by hand still is the agent's to guard.
	must(t, os.Chmod(h.path("pitboss/agent.sock"), 0o666))
	h.finish(as(h.command("pitboss", "--socket", h.path("pitboss/agent.sock"), "status"))).want(t, 77, "PERMISSION_DENIED", "access.clients")
	h.pitboss("status").want(t, 0)
}

// TestSilenceNamesTheUnit: where nothing answers at a service's socket, its unit is named.
func TestSilenceNamesTheUnit(t *testing.T) {
	for path, want := range map[string]string{"/run/pitboss/agent.sock": "`systemctl status pitboss`", "/run/pitboss/gpu.sock": "`systemctl status pitboss@gpu`",
		"/tmp/agent.sock": "it may be stopped (SIGSTOP)"} {
		if next := silence(path); !strings.Contains(next, want) {
			t.Errorf("%s: %q", path, next)
		}
	}
}

// TestRolesOfRealUsers: each role does what is its own, and is told what it lacks for the rest.
func TestRolesOfRealUsers(t *testing.T) {
	look, call, stop := "status", "call add a=1 b=2", "stop"
	for _, c := range []struct {
		name, access string
		groups       []uint32
		mode         os.FileMode
		allowed      []string
		denied       map[string]string // what each refusal names
	}{
		{"a client by its group", "{clients: {groups: [54321]}}", []uint32{others}, 0o660, []string{look, call, "health", "tools"},
			map[string]string{stop: "Stop needs the role admin, and user 65534 is client; being in access.admins"}},
		{"a client by its name", "{clients: {users: [nobody]}}", nil, 0o666, []string{look, call}, map[string]string{stop: "access.admins"}},
		{"a viewer", "{clients: {groups: [54321]}, viewers: {users: [65534]}}", nil, 0o666, []string{look, "tools"},
			map[string]string{call: `Call needs the role client or admin, and user 65534 is viewer; being in group "54321", or in access.clients or access.admins`, stop: "access.admins"}},
		{"nothing", "{clients: {users: [1]}}", []uint32{others}, 0o666, nil,
			map[string]string{look: "Status needs the role client or viewer or admin, and user 65534 has none", call: "access.clients", stop: "access.admins"}},
		{"an admin", "{admins: {groups: [54321]}}", []uint32{others}, 0o660, []string{look, call, stop}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := shared(t, c.access)
			if mode, group := h.socketMode(); mode != c.mode || (mode == 0o660 && group != others) {
				t.Errorf("the socket has mode %o and group %d", mode, group)
			}
			run := func(line string) ended {
				args := append([]string{"--socket", h.path("pitboss/agent.sock")}, strings.Fields(line)...)
				return h.finish(as(h.command("pitboss", args...), c.groups...))
			}
			for line, text := range c.denied {
				run(line).want(t, 77, "PERMISSION_DENIED", text)
			}
			for _, line := range c.allowed {
				run(line).want(t, 0)
			}
			if c.mode == 0o660 { // who is not of the group does not come to the agent at all
				if len(c.allowed) > 0 && c.allowed[len(c.allowed)-1] != stop {
					h.finish(as(h.command("pitboss", "--socket", h.path("pitboss/agent.sock"), "status"))).want(t, 77, "permission denied")
				}
			}
		})
	}
}

// TestAccessNamesThatAreNotThere are faults of the configuration, each at its place.
func TestAccessNamesThatAreNotThere(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte("access:\n  clients:\n    users: [no-such-user]\n    groups: [no-such-group]\n"+onePool), 0o644))
	h.pitboss("config", "check", "pitboss.yaml").want(t, 78, `pitboss.yaml:3:13: access.clients.users[0]: user "no-such-user" is not in /etc/passwd`,
		`pitboss.yaml:4:14: access.clients.groups[0]: group "no-such-group" is not in /etc/group`)
}
