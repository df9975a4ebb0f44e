//go:build booted

package booted

import (
	"strings"
	"testing"
)

// TestTheDeadlinesOfTheUnit: ones that come before the agent's own are refused at the start, and so is a reload that would need longer ones.
func TestTheDeadlinesOfTheUnit(t *testing.T) {
	serving(t)
	dropIn(t, "[Service]\nTimeoutStopSec=20s\nWatchdogSec=5s\n")
	since := markJournal(t)
	if out, code := try(t, "systemctl", "restart", service); code == 0 {
		t.Errorf("started under deadlines that are too short: %s", out)
	}
	if status := property(t, service, "ExecMainStatus"); status != "78" {
		t.Errorf("exit status %s", status)
	}
	said := journal(t, since, service)
	for _, want := range []string{"TimeoutStopSec=20s of pitboss.service is below 35s", "WatchdogSec=5s of pitboss.service is below", "systemctl edit pitboss.service"} {
		if !strings.Contains(said, want) {
			t.Errorf("the journal does not say %q:\n%s", want, said)
		}
	}
	dropIn(t, "")
	run(t, "systemctl", "restart", service)
	before := ready(t)
	write(t, poolFile, strings.Replace(poolText, "drain: 15s", "drain: 300s", 1))
	if out, code := try(t, "systemctl", "reload", service); code == 0 {
		t.Errorf("a drain of 300 s was taken with TimeoutStopSec=90s: %s", out)
	}
	if said := journal(t, since, service); !strings.Contains(said, "TimeoutStopSec=1m30s of pitboss.service is below 5m") {
		t.Errorf("the journal does not say why:\n%s", said)
	}
	if after := look(t); after.Agent.RunID != before.Agent.RunID {
		t.Error("the refused reload restarted the agent")
	}
	answers(t)
}

// TestLiveFigures: what `systemctl status` shows are the agent's own figures, and they follow.
func TestLiveFigures(t *testing.T) {
	serving(t)
	await(t, "the figures", func() bool { return strings.Contains(property(t, service, "StatusText"), "2 of 2 workers ready") })
	run(t, "pitboss", "drain", "--pool", "default")
	await(t, "the drain", func() bool {
		return strings.HasPrefix(property(t, service, "StatusText"), "pool default is draining; ")
	})
}
