package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain: nothing of an agent may be left when its tests end. Each test checks its own goroutines too (see
// startTestAgent), so that a leak is named by the test that made it.
func TestMain(m *testing.M) {
	strictEvents = true
	goleak.VerifyTestMain(m)
}

// startTestAgent runs an agent without a watchdog in this process; change may alter its pool, tune the agent before it
// runs. It ends with the test, and leaves no child and no goroutine. One process can hold one agent at a time: it is a
// subreaper and kills what it does not know.
func startTestAgent(t *testing.T, tools string, change func(*PoolConfig), tune ...func(*Agent)) *Agent {
	t.Helper()
	p := testPool(t, "default", tools)
	if change != nil {
		change(&p)
	}
	return runTestAgent(t, []PoolConfig{p}, tune...)
}

// testPool is a pool of one worker, with its tools in a directory of its own.
func testPool(t *testing.T, name, tools string) PoolConfig {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "tools.py")
	if err := os.WriteFile(file, []byte(tools), 0o600); err != nil {
		t.Fatal(err)
	}
	p := DefaultPool()
	p.Name, p.Adapter, p.Workdir, p.Guard, p.Workers = name, file, dir, "group", 1
	p.Timeouts.Kill = 300 * time.Millisecond
	return p
}

func runTestAgent(t *testing.T, pools []PoolConfig, tune ...func(*Agent)) *Agent {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	dir := t.TempDir()
	cfg := Default()
	cfg.Pools = pools
	a, err := New(Options{Config: cfg, Socket: filepath.Join(dir, "s"), RuntimeDir: filepath.Join(dir, "run"), GuardFD: -1,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tune {
		f(a)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(context.Background()) }()
	t.Cleanup(func() {
		a.Stop("end of the test")
		a.Hurry()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the agent does not end")
		}
		if left := listChildren(os.Getpid()); len(left) != 0 {
			t.Errorf("children %v are left", left)
		}
	})
	return a
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func request(tool, args string) *Request {
	return &Request{Tool: tool, Args: Value{JSON: []byte(args)}}
}

// callFails runs a call and returns its *Error of the wanted reason.
func callFails(t *testing.T, a *Agent, req *Request, want Reason) *Error {
	t.Helper()
	_, err := a.Call(within(t, 60*time.Second), req)
	var e *Error
	if !errors.As(err, &e) || e.Reason != want {
		t.Fatalf("%s: got %v, want %s", req.Tool, err, want)
	}
	return e
}

// serves checks that the pool answers again within limit.
func serves(t *testing.T, a *Agent, limit time.Duration) {
	t.Helper()
	start := time.Now()
	r, err := a.Call(within(t, 20*time.Second), request("add", `{"a":1,"b":2}`))
	if err != nil || string(r.JSON) != "3" {
		t.Fatalf("after the failure: %v %v", r, err)
	}
	if took := time.Since(start); took > limit {
		t.Errorf("served again after %s, want %s", took, limit)
	}
}

func await(t *testing.T, limit time.Duration, what string, reached func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !reached() {
		if time.Now().After(deadline) {
			t.Fatalf("not %s within %s", what, limit)
		}
		<-tick.C
	}
}

// workers is what status says of the only pool's workers.
func workers(a *Agent) []WorkerStatus { return a.Status().Pools[0].Workers }

// workerOf finds one worker by id; nil when it is gone.
func workerOf(a *Agent, id string) *WorkerStatus {
	for _, w := range workers(a) {
		if w.ID == id {
			return &w
		}
	}
	return nil
}

func waitReady(t *testing.T, a *Agent) {
	t.Helper()
	if err := a.WaitReady(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
}

// outcome is how one call ended, and after what time.
type outcome struct {
	result *Result
	err    error
	took   time.Duration
}

// begin runs a call beside the test; the channel gets its one outcome.
func begin(t *testing.T, a *Agent, req *Request) <-chan outcome {
	t.Helper()
	ended := make(chan outcome, 1)
	ctx := within(t, 2*time.Minute)
	go func() {
		start := time.Now()
		r, err := a.Call(ctx, req)
		ended <- outcome{r, err, time.Since(start)}
	}()
	return ended
}

// runs waits until a call is in flight and returns the worker that runs it.
func runs(t *testing.T, a *Agent) string {
	t.Helper()
	id := ""
	await(t, 10*time.Second, "running", func() bool {
		for _, w := range workers(a) {
			if w.InFlight == 1 {
				id = w.ID
			}
		}
		return id != ""
	})
	return id
}

// wantReason takes the *Error of the wanted reason out of err.
func wantReason(t *testing.T, err error, want Reason) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Reason != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	return e
}

// meanwhile calls another worker every 20 ms until done is closed or limit is over, and fails the test if one call is
// not answered. It returns how many were.
func meanwhile(t *testing.T, a *Agent, limit time.Duration, done func() bool) int {
	t.Helper()
	served := 0
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); !done(); served++ {
		if time.Now().After(deadline) {
			t.Fatalf("not over within %s", limit)
		}
		serves(t, a, 5*time.Second)
		<-tick.C
	}
	return served
}

// alive says whether a process exists and is no zombie, by the kernel.
func alive(pid int) bool {
	state, _, ok := readStat(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return ok && state != 'Z' && state != 'X'
}
