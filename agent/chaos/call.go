package chaos

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
)

// call is one call that a round started; done is closed with its outcome.
type call struct {
	pool string
	done chan struct{}
	pid  int // of the worker that answered
	err  error
}

// call starts a call of its own client; the end of the round ends it.
func (r *victims) call(pool, tool string) *call {
	ctx, cancel := context.WithCancel(context.Background())
	c, err := client.Dial(ctx, r.agent.Socket)
	r.Must(err)
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
	r.Cleanup(func() { cancel(); <-k.done; _ = c.Close() })
	return k
}

// answer waits for the call's outcome.
func (r *victims) answer(k *call) (int, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-k.done:
		return k.pid, k.err
	case <-timer.C:
		r.Fatalf("a call in pool %s has no outcome within %s%s", k.pool, patience, r.logs())
		return 0, nil
	}
}

// wantAnswer is the answer of one of these workers.
func (r *victims) wantAnswer(k *call, from map[int]bool, what string) {
	if pid, err := r.answer(k); err != nil || !from[pid] {
		r.Errorf("%s: pid %d, error %v, want one of %v; log:\n%s", what, pid, err, from, r.agent.Log())
	}
}

// enter brings every worker into a phase.
func (r *victims) enter(phase string) {
	tool := map[string]string{"mid-call": "hang", "mid-stream": "drip"}[phase]
	switch {
	case phase == "idle":
		r.agent.Ready()
	case phase == "starting":
		r.agent.noteTier()
	case tool != "":
		r.agent.noteTier()
		for i := range workers {
			pool := poolA
			if i >= workersA {
				pool = poolB
			}
			r.calls = append(r.calls, r.call(pool, tool))
		}
		r.Until("a "+tool+" in every worker", func() bool { return len(r.noted(tool)) == workers })
	}
}

// release lets the worker's call return.
func (r *victims) release(pid int) { r.Write("release."+strconv.Itoa(pid), "") }

func reasonOf(err error) client.Reason {
	var e *client.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}
