package main

import (
	"sync"
	"syscall"
	"testing"
)

// TestACommandDoesNotWaitForAStoppedAgent for ever, whichever it is; when it goes on, so does everything.
func TestACommandDoesNotWaitForAStoppedAgent(t *testing.T) {
	h := newHost(t)
	h.serve(onePool)
	st, _ := h.status()
	must(t, syscall.Kill(st.Agent.PID, syscall.SIGSTOP))
	var all sync.WaitGroup
	for _, args := range [][]string{{"status"}, {"call", "add", "a=1", "b=2"}, {"events", "-f"}, {"stop"}, {"restart", "--pool", "default"}} {
		all.Go(func() { h.pitboss(args...).want(t, 75, "does not answer", "may be stopped") })
	}
	all.Wait()
	must(t, syscall.Kill(st.Agent.PID, syscall.SIGCONT))
	if e := h.pitboss("call", "add", "a=1", "b=2"); e.stdout != "3\n" {
		t.Errorf("%+v", e)
	}
}
