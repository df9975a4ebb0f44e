//go:build booted

package booted

import (
	"strings"
	"testing"
	"time"
)

// TestReload: a good configuration is carried out without a restart; a bad one is refused, the reload fails where it was asked for,
// and the service goes on as it was.
func TestReload(t *testing.T) {
	before := serving(t)
	main, count := mainPID(t), restarts(t)
	write(t, poolFile, strings.Replace(poolText, "workers: 2", "workers: 3", 1))
	run(t, "systemctl", "reload", service)
	await(t, "three workers", func() bool { return look(t).Pools[0].Ready == 3 })

	since := markJournal(t)
	write(t, poolFile, strings.Replace(poolText, "workers: 2", "wrokers: 2", 1))
	if out, code := try(t, "systemctl", "reload", service); code == 0 {
		t.Errorf("a bad configuration was taken: %s", out)
	}
	if said := journal(t, since, service); !strings.Contains(said, "wrokers") || !strings.Contains(said, poolFile) || !strings.Contains(said, "status=78/CONFIG") {
		t.Errorf("the journal does not say what is wrong:\n%s", said)
	}
	unitIs(t, service, "active")
	after := look(t)
	if mainPID(t) != main || restarts(t) != count || after.Agent.RunID != before.Agent.RunID || after.Pools[0].Ready != 3 {
		t.Errorf("the refused reload changed something: %+v", after)
	}
	answers(t)
}

// TestWrongConfigurationStaysDown: it fails at once, says where the mistake is, is not tried again, and comes back when it is mended.
func TestWrongConfigurationStaysDown(t *testing.T) {
	serving(t)
	since := markJournal(t)
	write(t, poolFile, strings.Replace(poolText, "workers: 2", "workers: many", 1))
	if out, code := try(t, "systemctl", "restart", service); code == 0 {
		t.Errorf("started with a bad configuration: %s", out)
	}
	unitIs(t, service, "failed")
	if status := property(t, service, "ExecMainStatus"); status != "78" {
		t.Errorf("exit status %s", status)
	}
	if said := journal(t, since, service); !strings.Contains(said, poolFile+":5:14:") {
		t.Errorf("the journal does not say where:\n%s", said)
	}
	<-time.After(4 * time.Second) // several RestartSec=: that nothing happens is what is tested
	unitIs(t, service, "failed")
	if n := restarts(t); n != 0 {
		t.Errorf("restarted %d times", n)
	}
	unitIs(t, socket, "active")
	if out, code := call(t, "add", "a=1", "b=1", "--timeout", "20s"); code == 0 || !strings.Contains(out, "systemctl status pitboss") {
		t.Errorf("a caller is not told where to look: %q, exit %d", out, code)
	}
	// Who waits starts it again and again, until the manager's trigger limit refuses callers at once; a slow machine may not get there.
	write(t, poolFile, poolText)
	run(t, "systemctl", "restart", service)
	unitIs(t, socket, "active")
	ready(t)
	answers(t)
}
