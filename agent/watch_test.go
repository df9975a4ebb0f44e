package agent

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func quick(p *PoolConfig) {
	p.Heartbeat.Interval, p.Heartbeat.Timeout, p.Heartbeat.BlockedLimit, p.Heartbeat.HeldLimit = 300*time.Millisecond, 20*time.Second, 2*time.Second, 3*time.Second
}

func TestAHeldGILWithoutProgressIsKilledWithItsStack(t *testing.T) {
	a := startTestAgent(t, testTools, quick)
	e := callFails(t, a, request("hold_gil", `{}`), WorkerDied)
	if !strings.Contains(e.Message, "blocked") || !strings.Contains(e.Traceback, "in hold_gil") {
		t.Errorf("%s\n%s", e.Message, e.Traceback)
	}
	serves(t, a, 2*time.Second)
}

func TestABurningCallIsLeftAlone(t *testing.T) {
	a := startTestAgent(t, testTools, quick)
	r, err := a.Call(within(t, 60*time.Second), request("burn", `{"seconds":6}`))
	if err != nil {
		t.Fatal(err)
	}
	if s := a.Status().Pools[0].Workers; len(s) != 1 || s[0].ID != r.Worker {
		t.Errorf("workers after the call: %+v", s)
	}
}

func TestAStoppedWorkerIsHeldAndWelcomedBackOrKilled(t *testing.T) {
	for name, wake := range map[string]bool{"welcomed": true, "killed": false} {
		t.Run(name, func(t *testing.T) {
			a := startTestAgent(t, testTools, quick)
			if err := a.WaitReady(within(t, 20*time.Second)); err != nil {
				t.Fatal(err)
			}
			first := a.Status().Pools[0].Workers[0]
			if err := syscall.Kill(first.PID, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			held := func() (state string, others int) {
				for _, w := range a.Status().Pools[0].Workers {
					if w.ID == first.ID {
						state = w.State
					} else {
						others++
					}
				}
				return state, others
			}
			await(t, 10*time.Second, "held with a substitute", func() bool { s, n := held(); return s == "held" && n == 1 })
			serves(t, a, time.Second)
			if wake {
				if err := syscall.Kill(first.PID, syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
				await(t, 10*time.Second, "one worker again", func() bool { s, n := held(); return s != "held" && s != "" && n == 0 })
			} else {
				await(t, 10*time.Second, "killed at held_limit", func() bool { s, n := held(); return s == "" && n == 1 })
			}
			serves(t, a, time.Second)
		})
	}
}

// watched is a call in the background and the worker that it runs in, as its tool has noted it.
type watched struct {
	pid  int
	done chan struct{}
	err  error
	*Result
	after time.Duration // from the start of the call to its outcome
}

func watchCall(t *testing.T, a *Agent, tool string, args map[string]any) *watched {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pid")
	args["file"] = file
	text, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	c, ctx := &watched{done: make(chan struct{})}, within(t, 2*time.Minute)
	began := time.Now()
	go func() {
		defer close(c.done)
		c.Result, c.err = a.Call(ctx, request(tool, string(text)))
		c.after = time.Since(began)
	}()
	await(t, 10*time.Second, "running "+tool, func() bool {
		text, _ := os.ReadFile(file)
		c.pid, _ = strconv.Atoi(string(text))
		return c.pid != 0
	})
	return c
}

// row is the worker with this pid, and the others of its index.
func (c *watched) row(a *Agent) (row WorkerStatus, substitutes int) {
	workers := a.Status().Pools[0].Workers
	for _, w := range workers {
		if w.PID == c.pid {
			row = w
		}
	}
	for _, w := range workers {
		if w.PID != c.pid && w.Index == row.Index && row.PID != 0 {
			substitutes++
		}
	}
	return row, substitutes
}

// TestTheDefaultsUnderEverythingAtOnce: one worker burns in a single C call for 20 s with the GIL held, one holds the GIL
// and sleeps, one is stopped in the middle of a call, and the pool serves on with the others all the while.
func TestTheDefaultsUnderEverythingAtOnce(t *testing.T) {
	a := startTestAgent(t, testTools, func(p *PoolConfig) { p.Workers = 4 })
	if err := a.WaitReady(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	burning := watchCall(t, a, "burn_in_one_c_call", map[string]any{"seconds": 22})
	holding := watchCall(t, a, "hold_gil", map[string]any{})
	napping := watchCall(t, a, "nap_noting_its_pid", map[string]any{"seconds": 1})
	if err := syscall.Kill(napping.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	burner, _ := burning.row(a)
	before, _ := napping.row(a)
	verdicts := map[string]bool{} // of the burning worker
	var heldAfter, blockedAfter time.Duration
	for running := true; running; {
		select {
		case <-burning.done:
			running = false
		default:
		}
		serves(t, a, 2*time.Second)
		row, _ := burning.row(a)
		verdicts[row.Heartbeat.Verdict] = true
		if row, others := napping.row(a); others == 1 && heldAfter == 0 {
			heldAfter = time.Since(began)
			if row.State != "held" || row.CallsTotal != before.CallsTotal {
				t.Errorf("stopped worker: %+v", row)
			}
			if err := syscall.Kill(napping.pid, syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
		}
		if row, others := holding.row(a); others == 1 && blockedAfter == 0 {
			blockedAfter = time.Since(began)
			if row.State != "held" && row.State != "stopping" {
				t.Errorf("blocked worker: %+v", row)
			}
		}
	}
	t.Logf("substitute of the stopped worker after %s, of the blocked one after %s; its call failed after %s", heldAfter, blockedAfter, holding.after)
	for what, after := range map[string]time.Duration{"stopped": heldAfter, "blocked": blockedAfter} {
		if after == 0 || after > 10*time.Second {
			t.Errorf("the %s worker's substitute started after %s", what, after)
		}
	}
	var seconds float64
	if burning.err != nil || json.Unmarshal(burning.JSON, &seconds) != nil || seconds < 15 || burning.Worker != burner.ID || !verdicts["busy"] {
		t.Errorf("burning: %v %v after %s in %q, verdicts %v", burning.err, seconds, burning.after, burner.ID, verdicts)
	}
	if row, others := burning.row(a); row.ID != burner.ID || others != 0 {
		t.Errorf("the burning worker was replaced: %+v", row)
	}
	<-holding.done
	var e *Error
	if !errors.As(holding.err, &e) || e.Reason != WorkerDied || !strings.Contains(e.Message, "blocked") || !strings.Contains(e.Traceback, "in hold_gil") ||
		holding.after < 9*time.Second || holding.after > 16*time.Second {
		t.Errorf("holding the GIL: %v after %s", holding.err, holding.after)
	}
	<-napping.done
	if napping.err != nil || string(napping.JSON) != `"slept"` {
		t.Errorf("the stopped call, welcomed back: %v", napping.err)
	}
	await(t, 10*time.Second, "four workers again", func() bool { return len(a.Status().Pools[0].Workers) == 4 })
}

// TestAWorkerThatIsStoppedInACallIsKilledAtItsLimit with the call's error saying so.
func TestAWorkerThatIsStoppedInACallIsKilledAtItsLimit(t *testing.T) {
	a := startTestAgent(t, testTools, quick)
	napping := watchCall(t, a, "nap_noting_its_pid", map[string]any{"seconds": 1})
	if err := syscall.Kill(napping.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-napping.done
	var e *Error
	if !errors.As(napping.err, &e) || e.Reason != WorkerDied || !strings.Contains(e.Message, "held") {
		t.Errorf("%v", napping.err)
	}
	serves(t, a, 2*time.Second)
}
