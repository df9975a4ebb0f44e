//go:build booted

package booted

import (
	"strings"
	"testing"
)

// TestSocketActivation: the stopped service starts when somebody connects, and that call is answered.
func TestSocketActivation(t *testing.T) {
	before := serving(t)
	run(t, "systemctl", "stop", service)
	unitIs(t, service, "inactive")
	unitIs(t, socket, "active")
	await(t, "all of it gone", func() bool { return len(processes()) == 0 })
	answers(t)
	unitIs(t, service, "active")
	after := look(t)
	if after.Agent.RunID == before.Agent.RunID || after.Agent.Socket != apiPath {
		t.Errorf("%+v", after.Agent)
	}
	if after.Watchdog.PID != mainPID(t) || after.Watchdog.State != "armed" {
		t.Errorf("the main process is %d: %+v", mainPID(t), after.Watchdog)
	}
	await(t, "the manager shows the pools", func() bool { return strings.Contains(property(t, service, "StatusText"), "2 of 2 workers ready") })
}

// startSecond configures a second agent and starts its socket.
func startSecond(t *testing.T) {
	t.Helper()
	run(t, "mkdir", "-p", "/etc/pitboss/second/conf.d")
	t.Cleanup(func() { run(t, "rm", "-rf", "/etc/pitboss/second") })
	write(t, "/etc/pitboss/second/pitboss.yaml", "access: {clients: {groups: [pitboss-clients]}}\n"+poolText)
	run(t, "systemctl", "start", "pitboss@second.socket")
}

// TestInstance: a further agent has a configuration, a socket and directories of its own.
func TestInstance(t *testing.T) {
	serving(t)
	startSecond(t)
	unitIs(t, "pitboss@second.service", "inactive")
	if out, code := as(t, member, "pitboss", "--instance", "second", "call", "add", "a=4", "b=5"); code != 0 || strings.TrimSpace(out) != "9" {
		t.Errorf("%q, exit %d", out, code)
	}
	unitIs(t, "pitboss@second.service", "active")
	if out, code := as(t, member, "pitboss", "--instance", "second", "call", "identity"); code != 0 || !strings.Contains(out, "/var/lib/pitboss-second") {
		t.Errorf("%q, exit %d", out, code)
	}
	run(t, "systemctl", "reload", "pitboss@second.service")
	answers(t) // and the first is none the worse
	run(t, "systemctl", "stop", "pitboss@second.service")
	answers(t)
	run(t, "systemctl", "stop", "pitboss@second.socket")
}
