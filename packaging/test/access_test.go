//go:build booted

package booted

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestMembersOnly: a member of the group is served, root too, and nobody else comes as far as the agent, and reads why.
func TestMembersOnly(t *testing.T) {
	serving(t)
	answers(t)
	if out, code := try(t, "pitboss", "call", "add", "a=20", "b=3"); code != 0 || strings.TrimSpace(out) != "23" {
		t.Errorf("root: %q, exit %d", out, code)
	}
	if out, code := as(t, member, "pitboss", "stop"); code != 77 || !strings.Contains(out, "admin") {
		t.Errorf("a member may not stop it: %q, exit %d", out, code)
	}
	out, code := as(t, outsider, "pitboss", "call", "add", "a=2", "b=3")
	if code != 77 || !strings.Contains(out, "permission denied") || !strings.Contains(out, "pitboss-clients") {
		t.Errorf("nobody is not told which group to be in: %q, exit %d", out, code)
	}
	// The kernel alone says so too, and the socket is nobody's to replace.
	if out, code := as(t, outsider, "python3", "-c", "import socket; socket.socket(socket.AF_UNIX).connect('"+apiPath+"')"); code == 0 || !strings.Contains(out, "PermissionError") {
		t.Errorf("connect as nobody: %q, exit %d", out, code)
	}
	for _, user := range []string{"pitboss", member} {
		if out, code := as(t, user, "rm", "-f", apiPath); code == 0 {
			t.Errorf("%s can remove the socket: %s", user, out)
		}
	}
	info, err := os.Stat("/run/pitboss")
	must(t, err)
	if s := info.Sys().(*syscall.Stat_t); s.Uid != 0 || info.Mode().Perm() != 0o755 {
		t.Errorf("/run/pitboss belongs to %d, mode %v", s.Uid, info.Mode())
	}
}

// TestWorkersAreConfined: what user code sees of the host is what the unit says.
func TestWorkersAreConfined(t *testing.T) {
	serving(t)
	out, code := call(t, "identity")
	if code != 0 {
		t.Fatalf("%s", out)
	}
	uid := run(t, "id", "-u", "pitboss")
	for _, want := range []string{`"uid":` + uid, `"home":"/var/lib/pitboss"`, `"writable":["/tmp","/dev/shm","/var/lib/pitboss"]`} {
		if !strings.Contains(strings.Join(strings.Fields(out), ""), want) {
			t.Errorf("no %s in %s", want, out)
		}
	}
	if out, code := call(t, "reach", "path="+apiPath); code == 0 || !strings.Contains(out, "PermissionError") {
		t.Errorf("user code can reach the API: %q, exit %d", out, code)
	}
	seen := map[string]bool{}
	for _, w := range look(t).Pools[0].Workers {
		cgroup := read(t, fmt.Sprintf("/proc/%d/cgroup", w.PID))
		if _, own, _ := strings.Cut(cgroup, "pitboss.service/workers/"); own == "" || seen[own] {
			t.Errorf("worker %s has no cgroup of its own: %s", w.ID, cgroup)
		} else {
			seen[own] = true
		}
	}
}
