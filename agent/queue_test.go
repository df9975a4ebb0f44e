package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const queueTools = `
import time
import pitboss

@pitboss.tool
def pause(seconds: float) -> float:
    time.sleep(seconds)
    return seconds

@pitboss.tool
def note(file: str, text: str):
    with open(file, "a") as f:
        f.write(text + "\n")

@pitboss.tool
def add(a: int, b: int) -> int:
    return a + b
`

func queued(a *Agent) int { return a.Status().Pools[0].Queued }

// occupied starts an agent with one worker that runs a call until release is called; release waits for its answer.
func occupied(t *testing.T, seconds float64, change func(*PoolConfig)) (a *Agent, release func()) {
	t.Helper()
	a = startTestAgent(t, queueTools, change)
	waitReady(t, a)
	running := begin(t, a, request("pause", fmt.Sprintf(`{"seconds":%g}`, seconds)))
	runs(t, a)
	return a, func() {
		t.Helper()
		if o := <-running; o.err != nil {
			t.Errorf("the running call: %v", o.err)
		}
	}
}

func note(file, text string) *Request {
	return request("note", fmt.Sprintf(`{"file":%q,"text":%q}`, file, text))
}

func neverRan(t *testing.T, file string, e *Error) {
	t.Helper()
	if text, err := os.ReadFile(file); !os.IsNotExist(err) {
		t.Errorf("the call ran: %q %v", text, err)
	}
	if e.MayHaveRun || e.Worker != "" || e.Call == 0 {
		t.Errorf("%+v", e)
	}
}

func TestAFullQueueRefusesAtOnce(t *testing.T) {
	for _, room := range []int{0, 2} {
		t.Run(fmt.Sprintf("queue.max %d", room), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "notes")
			a, release := occupied(t, 1.5, func(p *PoolConfig) { p.Queue.Max = room })
			var waiting []<-chan outcome
			for i := range room {
				waiting = append(waiting, begin(t, a, request("add", `{"a":1,"b":2}`)))
				await(t, 5*time.Second, "queued", func() bool { return queued(a) == i+1 })
			}
			start := time.Now()
			e := callFails(t, a, note(file, "x"), QueueFull)
			if took := time.Since(start); took > time.Second {
				t.Errorf("refused after %s", took)
			}
			release()
			for _, w := range waiting {
				if o := <-w; o.err != nil {
					t.Errorf("a queued call: %v", o.err)
				}
			}
			neverRan(t, file, e)
			if s := a.Status().Pools[0]; s.RejectedTotal != 1 || s.CallsTotal != uint64(room)+1 {
				t.Errorf("status %+v", s)
			}
		})
	}
}

func TestAWaitInTheQueueEnds(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*PoolConfig)
		timeout time.Duration
		text    string
	}{
		"at queue.timeout":        {func(p *PoolConfig) { p.Queue.Timeout = 300 * time.Millisecond }, 0, "too long in the queue"},
		"at the call's own limit": {nil, 300 * time.Millisecond, "too long in the queue"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "notes")
			a, release := occupied(t, 1.5, c.change)
			req := note(file, "x")
			req.Timeout = c.timeout
			start := time.Now()
			e := callFails(t, a, req, QueueTimeout)
			if took := time.Since(start); took < 300*time.Millisecond || took > 1200*time.Millisecond {
				t.Errorf("ended after %s", took)
			}
			if queued(a) != 0 {
				t.Error("it is still queued")
			}
			release()
			serves(t, a, 2*time.Second)
			neverRan(t, file, e)
		})
	}
}

func TestAClientLeavesTheQueueAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "notes")
	a, release := occupied(t, 1.5, nil)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		_, err := a.Call(ctx, note(file, "x"))
		ended <- err
	}()
	await(t, 5*time.Second, "queued", func() bool { return queued(a) == 1 })
	left := time.Now()
	cancel()
	e := wantReason(t, <-ended, CallCancelled)
	if took := time.Since(left); took > 500*time.Millisecond {
		t.Errorf("left after %s", took)
	}
	release()
	serves(t, a, 2*time.Second)
	neverRan(t, file, e)
}

func TestTheQueueIsFirstInFirstOut(t *testing.T) {
	file := filepath.Join(t.TempDir(), "notes")
	a, release := occupied(t, 1, nil)
	var waiting []<-chan outcome
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprint(i))
		waiting = append(waiting, begin(t, a, note(file, want[i])))
		await(t, 5*time.Second, "queued", func() bool { return queued(a) == i+1 })
	}
	release()
	for _, w := range waiting {
		if o := <-w; o.err != nil {
			t.Fatal(o.err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.TrimSpace(string(text)) != strings.Join(want, "\n") {
		t.Errorf("ran in the order %q %v", strings.Fields(string(text)), err)
	}
}

func TestTheLongestIdleWorkerIsNext(t *testing.T) {
	a := startTestAgent(t, queueTools, func(p *PoolConfig) { p.Workers = 3 })
	waitReady(t, a)
	var order []string
	for range 9 {
		r, err := a.Call(within(t, 20*time.Second), request("add", `{"a":1,"b":2}`))
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, r.Worker)
	}
	seen := map[string]bool{}
	for i, id := range order {
		seen[id] = true
		if id != order[i%3] {
			t.Errorf("order %v", order)
			break
		}
	}
	if len(seen) != 3 {
		t.Errorf("%d of 3 workers were used", len(seen))
	}
}

// Answers, deaths, deadlines and clients that leave, all at the same moment: each call has exactly one outcome, and no
// worker is lost to it.
func TestManyCallsHaveOneOutcomeEach(t *testing.T) {
	a := startTestAgent(t, testTools, func(p *PoolConfig) { p.Workers = 3; p.Queue.Max = 1000 })
	waitReady(t, a)
	kinds := []struct {
		req     *Request
		leave   time.Duration
		allowed []Reason
	}{
		{request("add", `{"a":1,"b":2}`), 0, []Reason{WorkerDied}},
		{request("exit_three", `{}`), 0, []Reason{WorkerDied}},
		{&Request{Tool: "pause", Args: Value{JSON: []byte(`{"seconds":0.1}`)}, Timeout: 102 * time.Millisecond}, 0, []Reason{CallTimeout, QueueTimeout, WorkerDied}},
		{request("pause", `{"seconds":0.05}`), 51 * time.Millisecond, []Reason{CallCancelled, WorkerDied}},
	}
	const calls = 96
	type ended struct {
		kind int
		err  error
	}
	outcomes := make(chan ended, 2*calls)
	for i := range calls {
		at := i % len(kinds)
		if at == 1 && i%16 != 1 {
			at = 0 // few deaths, or the restarts' growing delays are all that is seen
		}
		kind := kinds[at]
		req := *kind.req
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if kind.leave > 0 {
				ctx, cancel = context.WithTimeout(ctx, kind.leave)
				defer cancel()
			}
			_, err := a.Call(ctx, &req)
			outcomes <- ended{at, err}
		}()
	}
	for range calls {
		select {
		case o := <-outcomes:
			if o.err == nil {
				if o.kind == 1 {
					t.Error("exit_three has a result")
				}
				continue
			}
			if !slices.Contains(kinds[o.kind].allowed, reasonOf(o.err)) {
				t.Errorf("kind %d ended with %v", o.kind, o.err)
			}
		case <-time.After(time.Minute):
			t.Fatal("a call has no outcome")
		}
	}
	await(t, 20*time.Second, "three workers again", func() bool { s := a.Status().Pools[0]; return s.Ready == 3 && s.Queued == 0 && len(s.Workers) == 3 })
	if len(outcomes) != 0 {
		t.Errorf("%d outcomes too many", len(outcomes))
	}
}

func reasonOf(err error) Reason { return asError(err, "").Reason }
