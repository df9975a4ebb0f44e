//go:build booted

package booted

import (
	"strings"
	"testing"
)

const (
	viewer        = "pitboss-viewer" // in the group adm
	administrator = "pitboss-admin"  // in the group pitboss-admins
	rolesFile     = "/etc/pitboss/pitboss.yaml"
	socketDropIn  = "/etc/systemd/system/pitboss.socket.d/for-all.conf"
)

// TestRolesByGroups is the set-up of examples/setups: roles.yaml and the drop-in of the socket, as docs/operations.md says. Before the drop-in the
// viewer is kept out by the file; after it each role does what is its own, and the journal says who ordered what.
func TestRolesByGroups(t *testing.T) {
	serving(t)
	for group, name := range map[string]string{"adm": viewer, "pitboss-admins": administrator} {
		try(t, "groupadd", "--system", group)
		if _, code := try(t, "id", name); code != 0 {
			run(t, "useradd", "--create-home", "--groups", group, name)
		}
	}
	before := run(t, "cat", rolesFile)
	t.Cleanup(func() {
		write(t, rolesFile, before+"\n")
		run(t, "rm", "-r", "/etc/systemd/system/pitboss.socket.d")
		run(t, "systemctl", "daemon-reload")
		run(t, "systemctl", "restart", socket)
	})
	roles := run(t, "cat", share+"/setups/roles.yaml")
	access, _, found := strings.Cut(roles, "pools:")
	if !found {
		t.Fatalf("no pools in %s", roles)
	}
	write(t, rolesFile, access)
	run(t, "systemctl", "reload", service)
	if out, code := as(t, viewer, "pitboss", "status"); code != 77 || !strings.Contains(out, `join group "pitboss-clients"`) {
		t.Errorf("the viewer came through a socket of 0660: %q, exit %d", out, code)
	}

	run(t, "mkdir", "-p", "/etc/systemd/system/pitboss.socket.d")
	run(t, "cp", share+"/setups/socket-for-all.conf", socketDropIn)
	run(t, "systemctl", "daemon-reload")
	run(t, "systemctl", "restart", socket)
	run(t, "systemctl", "start", service)
	ready(t)
	answers(t)
	for _, c := range []struct {
		user, line string
		code       int
	}{
		{member, "status", 0}, {member, "calls", 77}, {member, "restart --pool default", 77},
		{viewer, "calls", 0}, {viewer, "events", 0}, {viewer, "call add a=1 b=2", 77}, {viewer, "drain", 77},
		{administrator, "call add a=1 b=2", 0}, {administrator, "scale default 1", 0}, {administrator, "reload", 0},
		{outsider, "status", 77}, {outsider, "resume", 77},
	} {
		since := markJournal(t)
		out, code := as(t, c.user, append([]string{"pitboss"}, strings.Fields(c.line)...)...)
		if code != c.code || code == 77 && !strings.Contains(out, "PERMISSION_DENIED") {
			t.Errorf("%s by %s: %q, exit %d", c.line, c.user, out, code)
		}
		want := map[string]string{"scale default 1": "event=admin.action method=Scale", "drain": "event=admin.refused method=Drain", "resume": "event=admin.refused method=Resume"}[c.line]
		if want != "" {
			await(t, "on record: "+want, func() bool {
				said := journal(t, since, service)
				return strings.Contains(said, want) && strings.Contains(said, "user="+c.user)
			})
		}
	}
}
