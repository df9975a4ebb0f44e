package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// two keeps a second worker beside the one that misbehaves.
func two(p *PoolConfig) { p.Workers = 2 }

func TestDeathsAreToldAndReplaced(t *testing.T) {
	for _, c := range []struct{ tool, signal, line string }{
		{"segfault", "SIGSEGV", "in segfault"}, {"exit_three", "", "in exit_three"},
	} {
		t.Run(c.tool, func(t *testing.T) {
			a := startTestAgent(t, testTools, nil)
			waitReady(t, a)
			e := callFails(t, a, request(c.tool, `{}`), WorkerDied)
			pm := e.PostMortem
			if pm == nil || pm.Signal != c.signal || (c.signal == "" && (pm.Code == nil || *pm.Code != 3)) || !strings.Contains(pm.Stack, c.line) {
				t.Errorf("post-mortem %+v", pm)
			}
			serves(t, a, time.Second)
		})
	}
}

func TestADeathLeavesTheOtherWorkersAlone(t *testing.T) {
	a := startTestAgent(t, testTools, two)
	waitReady(t, a)
	for _, tool := range []string{"segfault", "exit_three"} {
		slow := begin(t, a, request("pause", `{"seconds":0.5}`))
		survivor := runs(t, a)
		callFails(t, a, request(tool, `{}`), WorkerDied)
		if o := <-slow; o.err != nil || o.result.Worker != survivor {
			t.Errorf("%s beside a running call ended it: %+v", tool, o)
		}
		await(t, 5*time.Second, "two workers again", func() bool { return a.Status().Pools[0].Ready == 2 })
	}
}

func TestDeadlockEndsAtItsDeadline(t *testing.T) {
	a := startTestAgent(t, testTools, two)
	waitReady(t, a)
	req := request("deadlock", `{}`)
	req.Timeout = 2 * time.Second
	stuck := begin(t, a, req)
	id := runs(t, a)
	var o outcome
	ended := func() bool {
		select {
		case o = <-stuck:
			return true
		default:
			return false
		}
	}
	if n := meanwhile(t, a, 20*time.Second, ended); n == 0 {
		t.Error("nothing was served meanwhile")
	}
	if e := wantReason(t, o.err, CallTimeout); e.PostMortem == nil || !strings.Contains(e.Traceback, "in deadlock") || e.Worker != id {
		t.Errorf("%+v", e)
	}
	await(t, 5*time.Second, "replaced", func() bool { return workerOf(a, id) == nil && a.Status().Pools[0].Ready == 2 })
}

func TestAGoneClientEndsItsCall(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	waitReady(t, a)
	ctx := within(t, 300*time.Millisecond)
	_, err := a.Call(ctx, request("deadlock", `{}`))
	wantReason(t, err, CallCancelled)
	serves(t, a, 2*time.Second)
}

// A client that stops taking chunks must not hold its worker beyond the call's deadline.
func TestAStreamWhoseClientStandsStillEndsAtItsDeadline(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	waitReady(t, a)
	stuck, free := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		first := true
		req := request("count", `{"n":1000000}`)
		req.Timeout = time.Second
		_, err := a.Stream(within(t, time.Minute), req, func(*Value) error {
			if first {
				first = false
				close(stuck)
				<-free
			}
			return nil
		})
		ended <- err
	}()
	<-stuck
	id := runs(t, a)
	await(t, 10*time.Second, "replaced", func() bool { return workerOf(a, id) == nil })
	serves(t, a, 2*time.Second)
	close(free)
	wantReason(t, <-ended, CallTimeout)
}

// Whatever a fork inside a tool does, its call has the parent's one answer, and later calls have their own.
func TestAForkInsideAToolGivesOneAnswer(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	waitReady(t, a)
	first := workers(a)[0].ID
	for _, tool := range []string{"forks", "fork_raises", "fork_unseen"} {
		r, err := a.Call(within(t, 20*time.Second), request(tool, `{}`))
		if err != nil || string(r.JSON) != `"parent"` || r.Worker != first {
			t.Fatalf("%s: %v %v", tool, r, err)
		}
		for range 5 {
			serves(t, a, 5*time.Second)
		}
	}
	// A second answer would be a protocol error and the worker's end.
	if w := workers(a); len(w) != 1 || w[0].ID != first || w[0].CallsTotal != 18 {
		t.Errorf("workers %+v", w)
	}
	e := callFails(t, a, request("fork_and_die", `{}`), WorkerDied)
	if e.PostMortem.Code == nil || *e.PostMortem.Code != 3 {
		t.Errorf("%+v", e.PostMortem)
	}
	serves(t, a, 2*time.Second)
}

func TestAnEscapedChildDiesWithItsWorkerAndOnlyWithIts(t *testing.T) {
	a := startTestAgent(t, testTools, two)
	waitReady(t, a)
	dir := t.TempDir()
	escape := func(name string, die bool) (int, error) {
		file := filepath.Join(dir, name)
		args := `{"file":` + strconv.Quote(file) + `,"die":` + strconv.FormatBool(die) + `}`
		_, err := a.Call(within(t, 20*time.Second), request("escape", args))
		text, readErr := os.ReadFile(file)
		pid, parseErr := strconv.Atoi(string(text))
		if fault := errors.Join(readErr, parseErr); fault != nil {
			t.Fatalf("%v (call: %v)", fault, err)
		}
		return pid, err
	}
	sibling, err := escape("sibling", false)
	if err != nil || !alive(sibling) {
		t.Fatalf("the control does not live: %v", err)
	}
	orphan, err := escape("orphan", true) // on the other worker: the one that has been idle longest
	wantReason(t, err, WorkerDied)
	await(t, 5*time.Second, "rid of the orphan", func() bool { return !alive(orphan) })
	serves(t, a, 2*time.Second)
	if !alive(sibling) {
		t.Error("the other worker's child was killed as well")
	}
}
