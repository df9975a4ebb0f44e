//go:build booted

package booted

import (
	"os"
	"strings"
	"testing"
)

// TestUserUnit: a user's own manager runs an agent of its own, from the same package, by socket.
func TestUserUnit(t *testing.T) {
	serving(t)
	run(t, "loginctl", "enable-linger", member)
	t.Cleanup(func() {
		run(t, "loginctl", "disable-linger", member)
		run(t, "systemctl", "stop", "user@"+run(t, "id", "-u", member)+".service")
	})
	runtime := "/run/user/" + run(t, "id", "-u", member)
	await(t, "the user's manager", func() bool { _, err := os.Stat(runtime + "/bus"); return err == nil })
	user := func(args ...string) (string, int) {
		return as(t, member, append([]string{"env", "XDG_RUNTIME_DIR=" + runtime, "DBUS_SESSION_BUS_ADDRESS=unix:path=" + runtime + "/bus"}, args...)...)
	}
	good := func(args ...string) string {
		t.Helper()
		out, code := user(args...)
		if code != 0 {
			more, _ := user("systemctl", "--user", "status", "--no-pager", "pitboss.service")
			t.Fatalf("%s: exit %d\n%s\n%s", strings.Join(args, " "), code, out, more)
		}
		return strings.TrimSpace(out)
	}
	home := "/home/" + member
	good("mkdir", "-p", home+"/.config/pitboss")
	write(t, home+"/.config/pitboss/pitboss.yaml", poolText)
	good("systemctl", "--user", "enable", "--now", socket)
	if out := good("pitboss", "call", "add", "a=7", "b=8"); out != "15" {
		t.Errorf("%q", out)
	}
	if out := good("systemctl", "--user", "is-active", service); out != "active" {
		t.Errorf("%s", out)
	}
	if out := good("pitboss", "status"); !strings.Contains(out, runtime+"/pitboss/agent.sock") {
		t.Errorf("%s", out)
	}
	if out, code := as(t, outsider, "pitboss", "--socket", runtime+"/pitboss/agent.sock", "status"); code != 77 {
		t.Errorf("nobody: exit %d, %s", code, out)
	}
	good("systemctl", "--user", "reload", service)
	if out := good("systemd-analyze", "verify", "--user", service, socket); out != "" {
		t.Errorf("%s", out)
	}
	good("systemctl", "--user", "stop", service)
	if out, code := user("systemctl", "--user", "is-failed", service); code == 0 {
		t.Errorf("%s", out)
	}
	good("systemctl", "--user", "disable", "--now", socket)
	answers(t) // the system's agent is another
}
