package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/client"
)

const dyingTools = `
import ctypes, os, pitboss, time

@pitboss.tool
def add(a: int, b: int) -> int:
    return a + b

@pitboss.tool
def crash(how: str) -> None:
    held = bytearray(64 << 20)
    for i in range(60):
        print(f"last words {i}")
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(7)
    open("waits", "w").close()
    time.sleep(600)
`

// TestAPostMortemIsComplete: a real death of each kind, told in the error, the event, the log and explain.
func TestAPostMortemIsComplete(t *testing.T) {
	for _, c := range []struct {
		how, reason, end, killer string
		code                     int
		signal                   string
		stack                    bool
	}{
		{how: "segfault", reason: "WORKER_DIED", end: "died by SIGSEGV", signal: "SIGSEGV", stack: true},
		{how: "exit", reason: "WORKER_DIED", end: "exited with code 7", code: 7, stack: true},
		{how: "killed", reason: "WORKER_DIED", end: "died by SIGKILL", signal: "SIGKILL"}, // nothing can tell its stack
		{how: "cancelled", reason: "ADMIN", end: "died by SIGKILL (an administrator cancelled call ", killer: "an administrator cancelled call ", signal: "SIGKILL", stack: true},
	} {
		t.Run(c.how, func(t *testing.T) {
			h := newHost(t)
			must(t, os.WriteFile(h.path("dying.py"), []byte(dyingTools), 0o644))
			s := h.serve(strings.Replace(onePool, "tools.py", "dying.py", 1))
			for range 2 {
				h.pitboss("call", "add", "a=1", "b=2").want(t, 0)
			}
			e := h.dies(s, c.how)
			var pm agent.PostMortem
			must(t, json.Unmarshal(e.PostMortem, &pm))
			if string(e.Reason) != c.reason || !e.MayHaveRun || pm.Signal != c.signal || (pm.Code != nil) != (c.signal == "") || (pm.Code != nil && *pm.Code != c.code) {
				t.Errorf("%v %+v", e, pm)
			}
			last := len(pm.Output) - 1
			if pm.Call != e.Call || pm.Tool != "crash" || pm.Calls != 3 || pm.Uptime == "" || pm.MaxRSSKB < 64<<10 || last < 0 || pm.Output[last] != "last words 59" ||
				(c.killer == "") != (pm.Killer == "") || !strings.HasPrefix(pm.Killer, c.killer) || c.stack != strings.Contains(e.Traceback, "in crash") {
				t.Errorf("%v %+v\n%s", e, pm, e.Traceback)
			}
			h.deathIsTold(s, e, c.end)
		})
	}
}

// dies makes a call that ends with its worker and returns its error.
func (h *host) dies(s *service, how string) *client.Error {
	h.t.Helper()
	c, err := client.Dial(h.t.Context(), h.path("pitboss/agent.sock"))
	must(h.t, err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(h.t.Context(), 2*patience)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := client.Call[any](ctx, c, "crash", map[string]any{"how": how})
		failed <- err
	}()
	switch how {
	case "killed":
		h.awaitFile("waits")
		st, _ := s.status()
		must(h.t, syscall.Kill(st.Pools[0].Workers[0].PID, syscall.SIGKILL))
	case "cancelled":
		h.awaitFile("waits")
		calls, err := c.Calls(ctx, "")
		if err != nil || len(calls) != 1 {
			h.t.Fatal(calls, err)
		}
		h.pitboss("cancel", strconv.FormatUint(calls[0].Call, 10)).want(h.t, 0)
	}
	var e *client.Error
	if err := <-failed; !errors.As(err, &e) {
		h.t.Fatalf("%v", err)
	}
	return e
}

// deathIsTold looks for a death where people and programs do.
func (h *host) deathIsTold(s *service, e *client.Error, end string) {
	h.t.Helper()
	id := strconv.FormatUint(e.Call, 10)
	var o agent.Outcome
	h.await("told with its clean-up time", func() bool {
		x := h.pitboss("explain", id, "--json")
		return json.Unmarshal([]byte(x.stdout), &o) == nil && o.PostMortem != nil && o.PostMortem.CleanUpMS > 0
	})
	if pm := o.PostMortem; pm.Tool != "crash" || len(pm.Output) == 0 || !strings.HasPrefix(pm.Cause(), end) {
		h.t.Errorf("%+v", pm)
	}
	seen := 0
	for line := range strings.Lines(h.pitboss("events", "--prefix", "worker.exited", "--json").stdout) {
		seen++
		for _, part := range []string{`"end":"` + end, `"call":` + id, `"tool":"crash"`, "last words 59", `"calls":3`, `"max_rss_kb":`, `"uptime_s":`} {
			if !strings.Contains(strings.ReplaceAll(line, `": `, `":`), part) {
				h.t.Errorf("the event has no %s: %s", part, line)
			}
		}
	}
	if seen != 1 {
		h.t.Errorf("%d deaths were told", seen)
	}
	told := false
	for line := range strings.Lines(s.log()) {
		told = told || strings.Contains(line, "worker.exited") && strings.Contains(line, end) && strings.Contains(line, "last words 59") && strings.Contains(line, "crash")
	}
	if !told {
		h.t.Errorf("the log does not tell it:\n%s", s.log())
	}
}
