package main

import (
	"os"
	"strconv"
	"testing"
)

// TestWhatAWorkerCosts holds what docs/operations.md says of processes and descriptors, by the slope between 2 and 12 workers.
func TestWhatAWorkerCosts(t *testing.T) {
	h := newHost(t)
	s := h.serve("pools: [{name: default, adapter: tools.py, workers: 2}]\n")
	count := func() (processes, agent, watchdog int) {
		st, ok := s.status()
		if !ok {
			t.Fatal("no status")
		}
		descriptors := func(pid int) int {
			entries, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
			must(t, err)
			return len(entries)
		}
		return len(h.alive()), descriptors(st.Agent.PID), descriptors(st.Watchdog.PID)
	}
	processes, agent, watchdog := count()
	h.pitboss("scale", "default", "12").want(t, 0)
	h.await("grown", func() bool { st, ok := s.status(); return ok && st.Pools[0].Ready == 12 })
	moreProcesses, moreAgent, moreWatchdog := count()
	if n := moreProcesses - processes; n != 10*2 {
		t.Errorf("10 workers are %d processes", n)
	}
	// What a start or a client's connection holds for a moment is less than one descriptor for each worker.
	if n := moreAgent - agent; n < 10*8 || n >= 10*10 {
		t.Errorf("10 workers cost the agent %d descriptors", n)
	}
	if n := moreWatchdog - watchdog; n < 10*2 || n >= 10*3 {
		t.Errorf("10 workers cost the watchdog %d descriptors", n)
	}
}
