package main

import "testing"

// TestAReaderThatLeavesIsNoFault: `| head` has what it wanted, and nothing is said or left behind.
func TestAReaderThatLeavesIsNoFault(t *testing.T) {
	h := newHost(t)
	e := h.finish(h.command("bash", "-c", "set -o pipefail; pitboss run tools.py count n=1000000 | head -1; exit ${PIPESTATUS[0]}"))
	if e.stdout != "{\"i\":0}\n" || e.stderr != "" || e.code != 0 {
		t.Errorf("%+v", e)
	}
}

// TestAPoolThatCannotStartIsToldOnce where one call is all that was asked for.
func TestAPoolThatCannotStartIsToldOnce(t *testing.T) {
	h := newHost(t)
	e := h.pitboss("run", "tools.py:Nobody", "add", "a=1", "b=2")
	e.want(t, 69, "POOL_FAILED", "!level=")
	h.pitboss("run", "--debug", "tools.py:Nobody", "add", "a=1", "b=2").want(t, 69, "POOL_FAILED", "worker.start_failed")
}

// TestABrokenOffStartIsNotReleased: the watchdog is told of the end of what it guards, and of nothing else.
func TestABrokenOffStartIsNotReleased(t *testing.T) {
	h := newHost(t)
	for range 5 { // the successor of the killed worker is starting when the run ends
		h.pitboss("run", "tools.py", "nap", "seconds=60", "--timeout=200ms").want(t, 75, "!refused a message")
	}
}
