package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
)

// call is one call that a test started; done is closed with its outcome.
type call struct {
	pool string
	done chan struct{}
	pid  int // of the worker that answered
	err  error
}

// call starts a call of its own client; the end of the run ends it.
func (r *run) call(pool, tool string) *call {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c, err := client.Dial(ctx, r.socket)
	must(r.t, err)
	k := &call{pool: pool, done: make(chan struct{})}
	go func() {
		defer close(k.done)
		request := client.Request{Pool: pool, Tool: tool, Timeout: time.Minute}
		var result client.Result
		if tool == "drip" {
			result, k.err = c.StreamRaw(ctx, request, func(client.Value) error { return nil })
		} else {
			result, k.err = c.CallRaw(ctx, request)
		}
		if k.err == nil {
			k.pid, k.err = strconv.Atoi(string(result.JSON))
		}
	}()
	r.t.Cleanup(func() { cancel(); <-k.done; _ = c.Close() })
	return k
}

// answer waits for the call's outcome.
func (r *run) answer(k *call) (int, error) {
	r.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-k.done:
		return k.pid, k.err
	case <-timer.C:
		r.t.Fatalf("a call in pool %s has no outcome within %s; log:\n%s", k.pool, patience, r.log())
		return 0, nil
	}
}

// wantAnswer is the answer of one of these workers.
func (r *run) wantAnswer(k *call, from map[int]bool, what string) {
	r.t.Helper()
	if pid, err := r.answer(k); err != nil || !from[pid] {
		r.t.Errorf("%s: pid %d, error %v, want one of %v; log:\n%s", what, pid, err, from, r.log())
	}
}

// enter brings every worker into a phase.
func (r *run) enter(phase string) {
	r.t.Helper()
	tool := map[string]string{"mid-call": "hang", "mid-stream": "drip"}[phase]
	switch {
	case phase == "idle":
		r.awaitReady()
	case tool != "":
		for i := range workers {
			pool := poolA
			if i >= workersA {
				pool = poolB
			}
			r.calls = append(r.calls, r.call(pool, tool))
		}
		r.until("a "+tool+" in every worker", func() bool { return len(r.noted(tool)) == workers })
	}
}

// release lets the worker's call return.
func (r *run) release(pid int) { r.write("release."+strconv.Itoa(pid), "") }

// awaitReady asks the agent, because only it knows when a worker may be called.
func (r *run) awaitReady() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := client.Dial(ctx, r.socket)
	must(r.t, err)
	defer c.Close()
	r.until("ready pools", func() bool {
		text, err := c.Status(ctx)
		must(r.t, err)
		var s struct{ Pools []struct{ State string } }
		must(r.t, json.Unmarshal(text, &s))
		return len(s.Pools) == launchers && s.Pools[0].State == "ready" && s.Pools[1].State == "ready"
	})
}

func reasonOf(err error) client.Reason {
	var e *client.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}
