package agent

import (
	"bytes"
	"context"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestACutLinkIsDeath(t *testing.T) {
	for _, tool := range []string{"cut_control", "cut_data_write"} {
		t.Run(tool, func(t *testing.T) {
			a := startTestAgent(t, testTools, two)
			waitReady(t, a)
			cut := begin(t, a, request(tool, `{}`)) // it may be over before anybody has seen it run
			serves(t, a, 2*time.Second)
			// Either the agent sees the end first and kills, or the worker ends itself at EOF.
			o := <-cut
			e := wantReason(t, o.err, WorkerDied)
			if !strings.Contains(e.Message, "link cut") && e.PostMortem.Code == nil {
				t.Errorf("%+v", e)
			}
			if o.took > 10*time.Second {
				t.Errorf("noticed after %s", o.took)
			}
			await(t, 5*time.Second, "replaced", func() bool { return workerOf(a, e.Worker) == nil && a.Status().Pools[0].Ready == 2 })
		})
	}
}

// A worker that reads no more still answers the call that it runs, and is replaced at the next one at the latest.
func TestAWorkerThatReadsNoMoreIsReplaced(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	waitReady(t, a)
	r, err := a.Call(within(t, 20*time.Second), request("cut_data_read", `{}`))
	if err != nil || string(r.JSON) != `"answered"` {
		t.Fatalf("%v %v", r, err)
	}
	if _, err := a.Call(within(t, 20*time.Second), request("add", `{"a":1,"b":2}`)); err != nil {
		wantReason(t, err, WorkerDied)
	}
	await(t, 5*time.Second, "replaced", func() bool { return workerOf(a, r.Worker) == nil })
	serves(t, a, 2*time.Second)
}

// The control thread of a worker whose GIL is held reads nothing; more pings than its socket holds are a cut link.
func TestAFullControlSocketIsACutLink(t *testing.T) {
	a := startTestAgent(t, testTools, two)
	waitReady(t, a)
	held := begin(t, a, request("hold_gil", `{}`))
	id := runs(t, a)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	pings := 0
	for ; pings < 5000 && workerOf(a, id) != nil; pings++ {
		_, _ = a.Ping(gone, id)
	}
	o := <-held
	e := wantReason(t, o.err, WorkerDied)
	if !strings.Contains(e.Message, "link cut") || o.took > 8*time.Second {
		t.Errorf("after %d pings and %s: %s", pings, o.took, e.Message)
	}
	serves(t, a, 2*time.Second)
}

// stopIdle stops the worker that the next call gets.
func stopIdle(t *testing.T, a *Agent) WorkerStatus {
	t.Helper()
	p := a.allPools()[0]
	p.mu.Lock()
	id := p.idle[0].id
	p.mu.Unlock()
	w := workerOf(a, id)
	if err := syscall.Kill(w.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	return *w
}

func largeArgument() *Request {
	return &Request{Tool: "take", Args: Value{JSON: []byte(`{"data":{"$part":0}}`), Parts: [][]byte{bytes.Repeat([]byte("x"), 10<<20)}}}
}

func TestAnArgumentThatIsNotReadEndsAtItsDeadline(t *testing.T) {
	a := startTestAgent(t, testTools, two)
	waitReady(t, a)
	w := stopIdle(t, a)
	req := largeArgument()
	req.Timeout = 2 * time.Second
	stuck := begin(t, a, req)
	if id := runs(t, a); id != w.ID {
		t.Fatalf("%s runs the call, %s was stopped", id, w.ID)
	}
	var o outcome
	meanwhile(t, a, 20*time.Second, func() bool {
		select {
		case o = <-stuck:
			return true
		default:
			return false
		}
	})
	wantReason(t, o.err, CallTimeout)
	if o.took < 2*time.Second || o.took > 6*time.Second {
		t.Errorf("ended after %s", o.took)
	}
	await(t, 5*time.Second, "replaced", func() bool { return !alive(w.PID) && a.Status().Pools[0].Ready == 2 })
}

func TestAClientThatLeavesWhileItsArgumentIsWrittenLeavesAtOnce(t *testing.T) {
	a := startTestAgent(t, testTools, two)
	waitReady(t, a)
	w := stopIdle(t, a)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		_, err := a.Call(ctx, largeArgument())
		ended <- err
	}()
	runs(t, a)
	left := time.Now()
	cancel()
	wantReason(t, <-ended, CallCancelled)
	if took := time.Since(left); took > time.Second {
		t.Errorf("left after %s", took)
	}
	serves(t, a, 2*time.Second)
	await(t, 5*time.Second, "replaced", func() bool { return !alive(w.PID) && a.Status().Pools[0].Ready == 2 })
}
