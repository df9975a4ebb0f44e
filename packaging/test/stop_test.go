//go:build booted

package booted

import (
	"strings"
	"testing"
	"time"
)

// stopLimit is drain + kill grace + 12 s of the tests' pool: what the agent and its watchdog allow themselves. TimeoutStopSec=, 90 s,
// is far behind it.
const stopLimit = 15*time.Second + time.Second + 12*time.Second + 5*time.Second

// TestStopWaitsForCalls: a call of 10 s is in flight, the service is stopped, the caller gets its answer.
func TestStopWaitsForCalls(t *testing.T) {
	serving(t)
	running := begin(t, "nap", "seconds=10")
	start := time.Now()
	run(t, "systemctl", "stop", service)
	took := time.Since(start)
	if out, code := running.end(t); code != 0 || !strings.Contains(out, "slept") {
		t.Errorf("%q, exit %d", out, code)
	}
	if took < 5*time.Second || took > stopLimit {
		t.Errorf("the stop took %v", took)
	}
	unitIs(t, service, "inactive")
	if result := property(t, service, "Result"); result != "success" {
		t.Errorf("result %s", result)
	}
}

// TestStopEndsTheStuck: what does not end is killed, by the agent and in its own time, not by the manager.
func TestStopEndsTheStuck(t *testing.T) {
	serving(t)
	running := begin(t, "stuck")
	start := time.Now()
	run(t, "systemctl", "stop", service)
	took := time.Since(start)
	figure("stop with a stuck call (drain 15 s, kill 1 s)", "%.1f s", took.Seconds())
	if out, code := running.end(t); code != 69 && code != 75 {
		t.Errorf("%q, exit %d", out, code)
	}
	if took < 15*time.Second || took > stopLimit {
		t.Errorf("the stop took %v", took)
	}
	unitIs(t, service, "inactive")
	if result := property(t, service, "Result"); result != "success" {
		t.Errorf("result %s", result)
	}
	await(t, "all of it gone", func() bool { return len(processes()) == 0 })
}

// TestRestartWaitsForCalls: the same by a restart; who calls meanwhile waits in the socket's backlog or is told to come back.
func TestRestartWaitsForCalls(t *testing.T) {
	before := serving(t)
	running := begin(t, "nap", "seconds=5")
	run(t, "systemctl", "restart", service)
	if out, code := running.end(t); code != 0 || !strings.Contains(out, "slept") {
		t.Errorf("%q, exit %d", out, code)
	}
	after := ready(t)
	nobodyElse(t, after.Agent.RunID)
	if after.Agent.RunID == before.Agent.RunID {
		t.Error("nothing was restarted")
	}
	answers(t)
}
