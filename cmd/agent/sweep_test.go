package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// escape is a tool whose daemon leaves everything behind that holds it: session, parent, standard streams.
const escape = `
import os, subprocess
import pitboss

@pitboss.tool
def escape() -> int:
    out, into = os.pipe()
    if os.fork() == 0:
        os.setsid()
        daemon = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        os.write(into, str(daemon.pid).encode())
        os._exit(0)
    os.wait()
    return int(os.read(out, 20))
`

// TestTheNextAgentSweeps: when everything that could clean up is killed at one moment, an escaped daemon outlives it, and the
// next agent in that runtime directory ends it before it starts anything; another instance touches nothing.
func TestTheNextAgentSweeps(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("escape.py"), []byte(escape), 0o644))
	config := "pools: [{name: default, adapter: escape.py, workers: 1, timeouts: {kill: 300ms}}]\n"
	s := h.serve(config)
	st, _ := s.status()
	daemon := 0
	_, err := fmt.Sscan(h.pitboss("call", "escape").stdout, &daemon)
	must(t, err)
	w := st.Pools[0].Workers[0]
	all := []int{st.Watchdog.PID, st.Agent.PID, st.Pools[0].LauncherPID, w.KeeperPID, w.PID}
	for _, pid := range all { // stopped first, so that none of them sees another's death
		must(t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	for _, pid := range all {
		must(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	s.exit()
	h.await("alone", func() bool { left := h.alive(); return len(left) == 1 && left[0] == daemon })

	other := h.start(h.command("pitboss", "--instance", "other", "agent", "--config", "pitboss.yaml"))
	h.await("ready", func() bool { return h.pitboss("--instance", "other", "call", "escape").code == 0 })
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", daemon)); err != nil || string(name) != "sleep\n" {
		t.Fatalf("another instance ended the daemon: %q %v", name, err)
	}
	must(t, other.cmd.Process.Signal(syscall.SIGTERM))
	other.exit()

	next := h.serve(config)
	now, _ := next.status()
	if now.Swept == nil || now.Swept.RunID != st.Agent.RunID || now.Swept.Killed != 1 || len(now.Swept.Left) != 0 {
		t.Errorf("swept: %+v", now.Swept)
	}
	if slices.Contains(h.alive(), daemon) {
		t.Error("the daemon lives")
	}
	if !strings.Contains(next.log(), "swept what an earlier run had left") {
		t.Errorf("the log does not say so:\n%s", next.log())
	}
	if e := h.pitboss("events", "--prefix", "agent.swept"); !strings.Contains(e.stdout, "agent.swept") || !strings.Contains(e.stdout, st.Agent.RunID) {
		t.Errorf("%+v", e)
	}
	if text := read(t, h.path("pitboss/agent/run.jsonl")); strings.Count(text, "\n") != 3 || !strings.Contains(text, `"what":"worker default-0.1"`) {
		t.Errorf("the record of this run:\n%s", text)
	}
}

// TestTheNextAgentTellsOfTheLastDeath: by the watchdog's certificate; one that somebody else could have written is refused.
func TestTheNextAgentTellsOfTheLastDeath(t *testing.T) {
	h := newHost(t)
	s := h.serve(onePool)
	if st, _ := s.status(); st.LastDeath != nil || st.Swept != nil {
		t.Errorf("a first agent has a past: %+v %+v", st.LastDeath, st.Swept)
	}
	st, _ := s.status()
	must(t, syscall.Kill(st.Agent.PID, syscall.SIGKILL))
	s.exit()
	next := h.serve(onePool)
	now, _ := next.status()
	if d := now.LastDeath; d == nil || d.AgentPID != st.Agent.PID || d.Cause != "signal SIGKILL" {
		t.Errorf("last death %+v, want that of %d", d, st.Agent.PID)
	}
	must(t, syscall.Kill(now.Agent.PID, syscall.SIGKILL))
	next.exit()
	must(t, os.WriteFile(filepath.Join(h.dir, "pitboss/agent/last-death.json"), []byte(`{"schema":1,"run_id":`), 0o600))
	last := h.serve(onePool)
	if st, _ := last.status(); st.LastDeath != nil {
		t.Errorf("a torn certificate is told: %+v", st.LastDeath)
	}
	if !strings.Contains(last.log(), "the last death certificate is not believed") {
		t.Errorf("the log does not say so:\n%s", last.log())
	}
}
