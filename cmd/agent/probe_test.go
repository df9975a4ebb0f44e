package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// gate is an adapter whose import waits for the file "open" and fails if that holds "broken".
const gate = `
import os, time
while not os.path.exists("open"):
    time.sleep(0.02)
if open("open").read() == "broken":
    raise RuntimeError("the model is not there")
import pitboss

@pitboss.tool
def ok() -> bool:
    return True
`

const gatedPools = `
pools:
  - {name: fast, adapter: tools.py, workers: 1, timeouts: {kill: 300ms}}
  - {name: gated, adapter: gate.py, workers: 1, timeouts: {kill: 300ms, start: 30s}}
`

// quiet is success without a word.
func (e ended) quiet(t *testing.T) {
	t.Helper()
	e.want(t, 0)
	if e.stdout+e.stderr != "" {
		t.Errorf("not quiet: %+v", e)
	}
}

func TestWaitAndHealthFollowThePools(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("gate.py"), []byte(gate), 0o644))
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(gatedPools), 0o644))
	h.pitboss("health").want(t, 69, "no agent at")
	h.pitboss("wait", "--timeout", "100ms").want(t, 69, "no agent at", "within 100ms", "pitboss agent")
	h.pitboss("wait", "--timeout", "0s").want(t, 64, "above 0")
	h.pitboss("wait", "elsewhere").want(t, 64, "usage: pitboss wait")
	h.pitboss("health", "--pol", "x").want(t, 64, "unknown flag: --pol")

	early := h.start(h.command("pitboss", "wait", "--pool", "fast")) // before there is an agent
	s := h.start(h.command("pitboss", "agent", "--config", "pitboss.yaml"))
	if code := early.exit(); code != 0 || early.log() != "" {
		t.Errorf("wait ended with %d: %s", code, early.log())
	}
	h.pitboss("health", "--pool", "fast").quiet(t)
	h.pitboss("health", "--pool", "gated").want(t, 1, `pool "gated" does not serve`, "pitboss status")
	h.pitboss("health").want(t, 1, "not every pool serves")
	h.pitboss("wait", "--pool", "gated", "--timeout", "300ms").want(t, 75, `not ready within 300ms: pool "gated" is starting`)
	h.pitboss("wait", "--pool", "fas").want(t, 64, `no pool is named "fas"`, "fast, gated")
	h.pitboss("health", "--pool", "fas").want(t, 64, "UNKNOWN_POOL")

	late := h.start(h.command("pitboss", "wait"))
	must(t, os.WriteFile(h.path("open.new"), []byte("ok"), 0o644))
	must(t, os.Rename(h.path("open.new"), h.path("open")))
	if code := late.exit(); code != 0 || late.log() != "" {
		t.Errorf("wait ended with %d: %s", code, late.log())
	}
	h.pitboss("health").quiet(t)
	if e := h.pitboss("--json", "health", "--pool", "gated"); e.code != 0 || strings.Join(strings.Fields(e.stdout), "") != `{"pool":"gated","serving":true}` {
		t.Errorf("%+v", e)
	}
	// An agent that is stopped answers nobody: the probe ends in its own time.
	st, _ := s.status()
	must(t, syscall.Kill(st.Agent.PID, syscall.SIGSTOP))
	began := time.Now()
	h.pitboss("health", "--timeout", "300ms").want(t, 75, "did not answer within 300ms")
	if took := time.Since(began); took > patience/3 {
		t.Errorf("a probe of 300ms took %s", took)
	}
	must(t, syscall.Kill(st.Agent.PID, syscall.SIGCONT))
	h.pitboss("wait").quiet(t)
}

// TestWaitSaysWhyAPoolFailed at once, with its traceback, instead of waiting to the end.
func TestWaitSaysWhyAPoolFailed(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("gate.py"), []byte(gate), 0o644))
	must(t, os.WriteFile(h.path("open"), []byte("broken"), 0o644))
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(gatedPools), 0o644))
	h.start(h.command("pitboss", "agent", "--config", "pitboss.yaml"))
	for _, args := range [][]string{{"wait"}, {"wait", "--pool", "gated"}} {
		h.pitboss(args...).want(t, 69, "POOL_FAILED", "the model is not there", "gate.py")
	}
	h.pitboss("wait", "--pool", "fast").quiet(t)
	h.pitboss("health").want(t, 1)
}
