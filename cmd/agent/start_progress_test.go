package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pitboss-run/pitboss/agent"
)

// slowImport is a module whose import waits for the file "go", and writes down when it began and when it ended.
const slowImport = `
import os, time

here = os.path.dirname(os.path.abspath(__file__))  # a launcher works elsewhere

def note(what):
    with open(os.path.join(here, "imports"), "a") as f:
        f.write(f"{what} {os.getpid()} {time.monotonic_ns()}\n")

note("begin")
while not os.path.exists(os.path.join(here, "go")):
    time.sleep(0.01)
note("end")
`

const addAlone = `
import pitboss

@pitboss.tool
def add(a: int, b: int) -> int:
    return a + b
`

// starting runs an agent and waits until its status shows what it does; the agent is not ready yet.
func (h *host) starting(config string, shown func(agent.PoolStatus) bool) *service {
	h.t.Helper()
	must(h.t, os.WriteFile(h.path("pitboss.yaml"), []byte(config), 0o644))
	s := h.start(h.command("pitboss", "agent", "--config", "pitboss.yaml"))
	h.await("seen starting", func() bool { st, ok := s.status(); return ok && len(st.Pools) == 1 && shown(st.Pools[0]) })
	return s
}

// TestStatusTellsWhatAStartDoes: while an adapter or a preload is imported the status says which and for how long, and the time grows.
func TestStatusTellsWhatAStartDoes(t *testing.T) {
	for _, c := range []struct {
		name, adapter, extra, doing, line string
		of                                func(agent.PoolStatus) (string, float64)
	}{
		{"an adapter's import", slowImport + addAlone, "", "importing slow.py", "starting (importing slow.py, ", func(p agent.PoolStatus) (string, float64) {
			if len(p.Workers) == 0 {
				return "", 0
			}
			return p.Workers[0].Doing, p.Workers[0].DoingS
		}},
		{"a preload", addAlone, "    preload: [heavy]\n", "preloading heavy", "  launcher: preloading heavy, ", func(p agent.PoolStatus) (string, float64) { return p.Doing, p.DoingS }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			must(t, os.WriteFile(h.path("slow.py"), []byte(c.adapter), 0o644))
			must(t, os.WriteFile(h.path("heavy.py"), []byte(slowImport), 0o644))
			var first float64
			s := h.starting(strings.Replace(onePool, "tools.py", "slow.py", 1)+c.extra, func(p agent.PoolStatus) bool {
				doing, since := c.of(p)
				first = since
				return strings.HasPrefix(doing, strings.TrimSuffix(c.doing, "slow.py")) && strings.HasSuffix(doing, c.doing[strings.LastIndexByte(c.doing, ' ')+1:])
			})
			h.await("going on", func() bool { st, _ := s.status(); _, since := c.of(st.Pools[0]); return since > first+0.2 })
			e := h.pitboss("status")
			if line := strings.ReplaceAll(e.stdout, h.dir+"/", ""); !strings.Contains(line, c.line) || !strings.Contains(line, " s") {
				t.Errorf("%+v", e)
			}
			must(t, os.WriteFile(h.path("go"), nil, 0o644))
			s.awaitReady()
			st, _ := s.status()
			if doing, since := c.of(st.Pools[0]); doing != "" || since != 0 {
				t.Errorf("a ready pool does %q for %g s", doing, since)
			}
		})
	}
}

// TestAStartThatHangsIsNamed: the error of a call says which import did not end, for an adapter with the line that it hangs in.
func TestAStartThatHangsIsNamed(t *testing.T) {
	for name, c := range map[string]struct{ adapter, extra, said string }{
		"adapter": {slowImport + addAlone, "", "slow.py)"},
		"preload": {addAlone, "    preload: [heavy]\n", "(it was preloading heavy)"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			must(t, os.WriteFile(h.path("slow.py"), []byte(c.adapter), 0o644))
			must(t, os.WriteFile(h.path("heavy.py"), []byte(slowImport), 0o644))
			config := strings.Replace(strings.Replace(onePool, "tools.py", "slow.py", 1), "{kill: 300ms,", "{kill: 300ms, start: 3s,", 1) + c.extra
			h.starting(config, func(p agent.PoolStatus) bool { return p.State == "failed" })
			e := h.pitboss("call", "add", "a=1", "b=2")
			e.want(t, 69, "POOL_FAILED", "was not ready within 3s (it was ", c.said)
			at := `slow.py", line %d in <module>`
			if name == "adapter" && !strings.Contains(e.stderr, fmt.Sprintf(at, 11)) && !strings.Contains(e.stderr, fmt.Sprintf(at, 12)) { // its loop
				t.Errorf("no line of the loop: %s", e.stderr)
			}
		})
	}
}

// TestAsManyStartAtOnceAsMay: the imports themselves say when they ran; at no time more than start_parallel, and as many as that.
func TestAsManyStartAtOnceAsMay(t *testing.T) {
	const wanted, parallel = 6, 2
	h := newHost(t)
	must(t, os.WriteFile(h.path("go"), nil, 0o644))
	slow := strings.Replace(slowImport, "note(\"end\")", "time.sleep(0.2)\nnote(\"end\")", 1)
	must(t, os.WriteFile(h.path("slow.py"), []byte(slow+addAlone), 0o644))
	h.serve(strings.Replace(strings.Replace(onePool, "tools.py", "slow.py", 1), "workers: 1", fmt.Sprintf("workers: %d\n    start_parallel: %d", wanted, parallel), 1))
	text, err := os.ReadFile(h.path("imports"))
	must(t, err)
	type event struct {
		at   int64
		step int
	}
	var events []event
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		at, err := strconv.ParseInt(fields[2], 10, 64)
		must(t, err)
		events = append(events, event{at, map[string]int{"begin": 1, "end": -1}[fields[0]]})
	}
	slices.SortFunc(events, func(a, b event) int { return int(a.at - b.at) })
	now, most := 0, 0
	for _, e := range events {
		now += e.step
		most = max(most, now)
	}
	if len(events) != 2*wanted || most != parallel {
		out, _ := json.Marshal(string(text))
		t.Errorf("%d imports, at most %d at once: %s", len(events)/2, most, out)
	}
}
