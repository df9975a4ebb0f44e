package agent

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// quick makes the detector fast, where a test is not about the defaults.
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

// The same at the defaults: a substitute within 10 s of the failure, the kill when the silence is blocked_limit, the line
// of the tool in the caller's error; the other worker serves on.
func TestAHeldGILAtTheDefaults(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 15 s")
	}
	a := startTestAgent(t, testTools, two)
	waitReady(t, a)
	start := time.Now()
	blocked := begin(t, a, request("hold_gil", `{}`))
	id := runs(t, a)
	substitute := time.Duration(0)
	var o outcome
	served := meanwhile(t, a, 40*time.Second, func() bool {
		if substitute == 0 && len(workers(a)) > 2 {
			substitute = time.Since(start)
		}
		select {
		case o = <-blocked:
			return true
		default:
			return false
		}
	})
	e := wantReason(t, o.err, WorkerDied)
	line := fmt.Sprintf("line %d in hold_gil", 1+strings.Count(testTools[:strings.Index(testTools, "ctypes.PyDLL(None).sleep")], "\n"))
	if !strings.Contains(e.Message, "blocked") || !strings.Contains(e.Traceback, line) {
		t.Errorf("%s\nwant %q in\n%s", e.Message, line, e.Traceback)
	}
	t.Logf("substitute after %s, killed after %s, %d calls served meanwhile", substitute, o.took, served)
	if substitute == 0 || substitute > 10*time.Second {
		t.Errorf("substitute started after %s", substitute)
	}
	if o.took < 10*time.Second || o.took > 15*time.Second {
		t.Errorf("killed after %s", o.took)
	}
	await(t, 5*time.Second, "two workers again", func() bool { return workerOf(a, id) == nil && a.Status().Pools[0].Ready == 2 })
}

// One call into C that never gives the GIL back, for 20 s and more at the defaults: no false kill, no restart.
func TestABurningCallIsLeftAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 25 s")
	}
	a := startTestAgent(t, testTools, two)
	waitReady(t, a)
	before := workers(a)
	seconds := func(n int) float64 {
		burning := begin(t, a, request("time_sum", `{"n":`+strconv.Itoa(n)+`}`))
		id, busy := runs(t, a), false
		var o outcome
		meanwhile(t, a, 90*time.Second, func() bool {
			if w := workerOf(a, id); w != nil && w.Heartbeat.Verdict == "busy" {
				busy = true
			}
			select {
			case o = <-burning:
				return true
			default:
				return false
			}
		})
		if o.err != nil {
			t.Fatal(o.err)
		}
		took, err := strconv.ParseFloat(string(o.result.JSON), 64)
		if err != nil {
			t.Fatal(err)
		}
		if took > 10 && !busy {
			t.Errorf("%.1f s of silence were never judged busy: the call gave the GIL back", took)
		}
		return took
	}
	// How much is enough depends on what else the host does: scaled until one call was long enough.
	n := 100_000_000
	took := seconds(n)
	for tries := 0; took < 20 && tries < 5; tries++ {
		n = int(float64(n) * 26 / took)
		took = seconds(n)
	}
	t.Logf("one call held the GIL for %.1f s", took)
	if took < 20 {
		t.Errorf("only %.1f s were tested", took)
	}
	after := workers(a)
	if len(after) != 2 || after[0].ID != before[0].ID || after[1].ID != before[1].ID {
		t.Errorf("workers %+v, before %+v", after, before)
	}
}

// stateOf is a worker's state and how many others its index has.
func stateOf(a *Agent, first WorkerStatus) (state string, others int) {
	for _, w := range workers(a) {
		switch {
		case w.ID == first.ID:
			state = w.State
		case w.Index == first.Index:
			others++
		}
	}
	return state, others
}

func TestAStoppedWorkerIsHeldAndWelcomedBackOrKilled(t *testing.T) {
	for name, wake := range map[string]bool{"welcomed": true, "killed": false} {
		t.Run(name, func(t *testing.T) {
			a := startTestAgent(t, testTools, quick)
			waitReady(t, a)
			first := workers(a)[0]
			if err := syscall.Kill(first.PID, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			await(t, 10*time.Second, "held with a substitute", func() bool { s, n := stateOf(a, first); return s == "held" && n == 1 })
			serves(t, a, time.Second)
			if wake {
				if err := syscall.Kill(first.PID, syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
				await(t, 10*time.Second, "one worker again", func() bool { s, n := stateOf(a, first); return s != "held" && s != "" && n == 0 })
			} else {
				await(t, 10*time.Second, "killed at held_limit", func() bool { s, n := stateOf(a, first); return s == "" && n == 1 })
			}
			serves(t, a, time.Second)
		})
	}
}

func TestAWorkerStoppedInACallIsKilledAtHeldLimit(t *testing.T) {
	a := startTestAgent(t, testTools, func(p *PoolConfig) { quick(p); p.Workers = 2 })
	waitReady(t, a)
	call := begin(t, a, request("pause", `{"seconds":60}`))
	id := runs(t, a)
	if err := syscall.Kill(workerOf(a, id).PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var o outcome
	meanwhile(t, a, 30*time.Second, func() bool {
		select {
		case o = <-call:
			return true
		default:
			return false
		}
	})
	if e := wantReason(t, o.err, WorkerDied); !strings.Contains(e.Message, "held: stopped") || e.Worker != id || !strings.Contains(e.Traceback, "in pause") {
		t.Errorf("%+v", e)
	}
	// The dump of its stack lets it run for a moment, and its control thread answers then: that is no recovery.
	must(t, a.WatchEvents(context.Background(), false, heartbeatVerdict.name, func(e Event) error {
		if fieldOf(e, "worker") == id && fieldOf(e, "from") == "held" {
			t.Errorf("a worker whose kill is decided changed its verdict: %v", e.Fields)
		}
		return nil
	}))
}

// At the defaults, one worker stopped idle and one in a call: both held and substituted within 10 s, given no further
// call, welcomed back; the call that was stopped in its middle has its own answer.
func TestStoppedWorkersAtTheDefaults(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 15 s")
	}
	a := startTestAgent(t, testTools, two)
	waitReady(t, a)
	call := begin(t, a, request("pause", `{"seconds":1.25}`))
	running := *workerOf(a, runs(t, a))
	var idle WorkerStatus
	for _, w := range workers(a) {
		if w.ID != running.ID {
			idle = w
		}
	}
	for _, w := range []WorkerStatus{running, idle} {
		if err := syscall.Kill(w.PID, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	stopped := time.Now()
	await(t, 20*time.Second, "held with substitutes", func() bool {
		s1, n1 := stateOf(a, running)
		s2, n2 := stateOf(a, idle)
		return s1 == "held" && s2 == "held" && n1 == 1 && n2 == 1
	})
	if took := time.Since(stopped); took > 10*time.Second {
		t.Errorf("substitutes started after %s", took)
	}
	for range 50 {
		r, err := a.Call(within(t, 20*time.Second), request("add", `{"a":1,"b":2}`))
		if err != nil || r.Worker == running.ID || r.Worker == idle.ID {
			t.Fatalf("%v %v", r, err)
		}
	}
	for _, w := range []WorkerStatus{running, idle} {
		if err := syscall.Kill(w.PID, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	o := <-call
	if o.err != nil || string(o.result.JSON) != "1.25" || o.result.Worker != running.ID {
		t.Errorf("the stopped call: %+v", o)
	}
	await(t, 20*time.Second, "the first two workers again", func() bool {
		s1, n1 := stateOf(a, running)
		s2, n2 := stateOf(a, idle)
		return s1 == "ready" && s2 == "ready" && n1 == 0 && n2 == 0
	})
	serves(t, a, 2*time.Second)
}

// When the held worker comes back, its substitute finishes the call that it runs, however long, and only then one of the
// two goes.
func TestACallInASubstituteOutlivesTheReturnOfTheHeldWorker(t *testing.T) {
	a := startTestAgent(t, testTools, func(p *PoolConfig) {
		quick(p)
		p.Heartbeat.HeldLimit = time.Minute
		p.Timeouts.Drain = 300 * time.Millisecond
	})
	waitReady(t, a)
	first := workers(a)[0]
	if err := syscall.Kill(first.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await(t, 10*time.Second, "held with a substitute", func() bool {
		s, n := stateOf(a, first)
		return s == "held" && n == 1 && a.Status().Pools[0].Ready == 1
	})
	call := begin(t, a, request("pause", `{"seconds":2.5}`))
	substitute := runs(t, a)
	if err := syscall.Kill(first.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	await(t, 10*time.Second, "back", func() bool { s, _ := stateOf(a, first); return s == "ready" || s == "draining" || s == "" })
	if o := <-call; o.err != nil || o.result.Worker != substitute {
		t.Errorf("%+v", o)
	}
	await(t, 10*time.Second, "one worker again", func() bool { return len(workers(a)) == 1 && a.Status().Pools[0].Ready == 1 })
	serves(t, a, 2*time.Second)
}
