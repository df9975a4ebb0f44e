package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// testTools are well- and ill-behaved tools, each a named misbehaviour.
const testTools = `
import ctypes, hashlib, os, threading, time
import pitboss

@pitboss.tool
def add(a: int, b: int) -> int:
    return a + b

@pitboss.tool
def count(n: int):
    for i in range(n):
        yield {"i": i}
    return n

@pitboss.tool
def exit_three():
    os._exit(3)

@pitboss.tool
def segfault():
    ctypes.string_at(0)

@pitboss.tool
def raises():
    raise ValueError("on purpose")

@pitboss.tool
def deadlock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

@pitboss.tool
def hold_gil():
    ctypes.PyDLL(None).sleep(60)

@pitboss.tool
def burn(seconds: int) -> int:
    total, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        total += sum(range(10**7))
    return total

@pitboss.tool
def forks() -> str:
    if os.fork() == 0:
        return "child"
    return "parent"

@pitboss.tool
def big(n: int) -> bytes:
    return b"x" * n

@pitboss.tool
def take(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

@pitboss.tool
def flood(seconds: float):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        print("flood")

@pitboss.tool
def cut_control():
    import socket
    socket.socket(fileno=os.dup(4)).shutdown(socket.SHUT_RDWR)
    time.sleep(30)
`

// startTestAgent runs an agent without a watchdog in this process; change may alter its pool.
func startTestAgent(t *testing.T, tools string, change func(*PoolConfig)) *Agent {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "tools.py")
	if err := os.WriteFile(file, []byte(tools), 0o600); err != nil {
		t.Fatal(err)
	}
	p := DefaultPool()
	p.Name, p.Adapter, p.Workdir, p.Guard, p.Workers = "default", file, dir, "group", 1
	p.Timeouts.Kill = 300 * time.Millisecond
	if change != nil {
		change(&p)
	}
	cfg := Default()
	cfg.Pools = []PoolConfig{p}
	a, err := New(Options{Config: cfg, Socket: filepath.Join(dir, "s"), RuntimeDir: filepath.Join(dir, "run"), GuardFD: -1,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))})
	if err != nil {
		t.Fatal(err)
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
		if left := listChildren(); len(left) != 0 {
			t.Errorf("children %v are left", left)
		}
	})
	return a
}

func TestAnAgentWithoutPoolsIsUpUntilItIsStopped(t *testing.T) {
	cfg, err := Load("../packaging/pitboss.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	a, err := New(Options{Config: cfg, Socket: filepath.Join(dir, "s"), RuntimeDir: filepath.Join(dir, "run"), GuardFD: -1,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(context.Background()) }()
	await(t, 10*time.Second, "listening", func() bool { _, err := os.Stat(filepath.Join(dir, "s")); return err == nil })
	if s := a.Status(); s.Agent.State != "running" || len(s.Pools) != 0 {
		t.Errorf("%+v", s)
	}
	if e := callFails(t, a, request("add", `{}`), UnknownPool); !strings.Contains(e.Message, "no pool is configured") {
		t.Errorf("%s", e.Message)
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended by itself: %v", err)
	default:
	}
	a.Stop("end of the test")
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the agent does not end")
	}
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

func TestDeathsAreToldAndReplaced(t *testing.T) {
	for _, c := range []struct{ tool, signal, line string }{
		{"segfault", "SIGSEGV", "in segfault"}, {"exit_three", "", "in exit_three"},
	} {
		t.Run(c.tool, func(t *testing.T) {
			a := startTestAgent(t, testTools, nil)
			if err := a.WaitReady(within(t, 20*time.Second)); err != nil {
				t.Fatal(err)
			}
			e := callFails(t, a, request(c.tool, `{}`), WorkerDied)
			pm := e.PostMortem
			if pm == nil || pm.Signal != c.signal || (c.signal == "" && (pm.Code == nil || *pm.Code != 3)) || !strings.Contains(pm.Stack, c.line) {
				t.Errorf("post-mortem %+v", pm)
			}
			serves(t, a, time.Second)
		})
	}
}

func TestAnswers(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	if err := a.WaitReady(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	serves(t, a, 5*time.Second)
	if e := callFails(t, a, request("raises", `{}`), ToolRaised); e.Type != "ValueError" || !strings.Contains(e.Traceback, "on purpose") {
		t.Errorf("%+v", e)
	}
	if e := callFails(t, a, request("add", `{"a":1}`), BadArguments); !strings.Contains(e.Message, "'b'") {
		t.Errorf("%+v", e)
	}
	if e := callFails(t, a, request("ad", `{}`), UnknownTool); !strings.Contains(e.Message, "add") {
		t.Errorf("%+v", e)
	}
	if e := callFails(t, a, request("nowhere/add", `{}`), UnknownPool); !strings.Contains(e.Message, "default") {
		t.Errorf("%+v", e)
	}
	items := 0
	r, err := a.Stream(within(t, 20*time.Second), request("count", `{"n":1000}`), func(v *Value) error { items++; return nil })
	if err != nil || items != 1000 || string(r.JSON) != "1000" {
		t.Errorf("stream of %d items ended with %v %v", items, r, err)
	}
	// One answer, whatever the fork does, and the worker lives on.
	if r, err := a.Call(within(t, 20*time.Second), request("forks", `{}`)); err != nil || string(r.JSON) != `"parent"` {
		t.Errorf("%v %v", r, err)
	}
	for range 20 {
		serves(t, a, 5*time.Second)
	}
}

func TestLargePayloads(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	r, err := a.Call(within(t, 60*time.Second), request("big", `{"n":100000000}`))
	if err != nil || len(r.Parts) != 1 || len(r.Parts[0]) != 100_000_000 {
		t.Fatalf("%v", err)
	}
	sum := sha256.Sum256(r.Parts[0])
	r, err = a.Call(within(t, 60*time.Second), &Request{Tool: "take", Args: Value{JSON: []byte(`{"data":{"$part":0}}`), Parts: r.Parts}})
	if err != nil || string(r.JSON) != `"`+hex.EncodeToString(sum[:])+`"` {
		t.Fatalf("%v %v", r, err)
	}
	callFails(t, a, request("big", `{"n":140000000}`), PayloadTooLarge)
	callFails(t, a, &Request{Tool: "take", Args: Value{JSON: []byte(`{"data":{"$part":0}}`), Parts: [][]byte{make([]byte, 140_000_000)}}}, PayloadTooLarge)
	serves(t, a, 5*time.Second)
}

func TestDeadlockEndsAtItsDeadline(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	req := request("deadlock", `{}`)
	req.Timeout = time.Second
	if e := callFails(t, a, req, CallTimeout); e.PostMortem == nil || !strings.Contains(e.Traceback, "in deadlock") {
		t.Errorf("%+v", e)
	}
	serves(t, a, 2*time.Second)
}

func TestAGoneClientEndsItsCall(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	if err := a.WaitReady(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 300*time.Millisecond)
	_, err := a.Call(ctx, request("deadlock", `{}`))
	var e *Error
	if !errors.As(err, &e) || e.Reason != CallCancelled {
		t.Fatal(err)
	}
	serves(t, a, 2*time.Second)
}

func TestACutLinkIsDeath(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	if e := callFails(t, a, request("cut_control", `{}`), WorkerDied); !strings.Contains(e.Message, "link cut") && e.PostMortem.Code == nil {
		t.Errorf("%+v", e)
	}
	serves(t, a, 2*time.Second)
}

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

func TestAPoolThatNeverStartsFailsWithItsTraceback(t *testing.T) {
	a := startTestAgent(t, "import pitboss\nraise RuntimeError('no model')\n", nil)
	err := a.WaitReady(within(t, 20*time.Second))
	var e *Error
	if !errors.As(err, &e) || e.Reason != PoolFailed || !strings.Contains(e.Traceback, "no model") {
		t.Fatalf("%v", err)
	}
	start := time.Now()
	callFails(t, a, request("add", `{}`), PoolFailed)
	if took := time.Since(start); took > 50*time.Millisecond {
		t.Errorf("the call failed after %s", took)
	}
}

func TestAFloodOfOutputIsDroppedAndCounted(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	if _, err := a.Call(within(t, 30*time.Second), request("flood", `{"seconds":1.0}`)); err != nil {
		t.Fatal(err)
	}
	if w := a.Status().Pools[0].Workers[0]; w.LinesDropped == 0 {
		t.Errorf("no line was dropped: %+v", w)
	}
	serves(t, a, time.Second)
}

func TestWorkerMachineOverAllPairs(t *testing.T) {
	for _, s := range workerStates {
		row, known := workerMachine[s]
		if !known {
			t.Errorf("state %q has no row", s)
		}
		if s != stateGone && (row[eventExited] != stateGone || row[eventKill] == "") {
			t.Errorf("state %q has no way out", s)
		}
		for _, ev := range workerEvents {
			next, err := s.next(ev)
			want, legal := row[ev]
			if legal && (err != nil || next != want) || !legal && (err == nil || next != s) {
				t.Errorf("%q + %q: %q %v", s, ev, next, err)
			}
		}
	}
}

// TestCallsThatCameBeforeTheTools: a call may wait for the first worker, when nobody knows the tools yet.
func TestCallsThatCameBeforeTheTools(t *testing.T) {
	a := startTestAgent(t, "import time\ntime.sleep(0.5)\n"+testTools, nil)
	early := make(chan error, 3)
	for _, tool := range []string{"count", "nope"} {
		go func() { _, err := a.Call(within(t, 20*time.Second), request(tool, `{"n":3}`)); early <- err }()
	}
	go func() {
		tools, err := a.Tools(within(t, 20*time.Second), "")
		if err == nil && len(tools) == 0 {
			err = errors.New("no tools were listed")
		}
		early <- err
	}()
	reasons := map[Reason]int{}
	for range 3 {
		var e *Error
		if err := <-early; errors.As(err, &e) {
			reasons[e.Reason]++
		} else if err != nil {
			t.Error(err)
		}
	}
	if reasons[BadArguments] != 1 || reasons[UnknownTool] != 1 {
		t.Errorf("got %v", reasons)
	}
	serves(t, a, 5*time.Second)
	if w := a.Status().Pools[0].Workers; len(w) != 1 || w[0].LastExit != "" {
		t.Errorf("a worker was lost: %+v", w)
	}
}
