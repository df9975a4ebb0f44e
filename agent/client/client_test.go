package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/client"
	"go.uber.org/goleak"
)

// TestMain plays the program that launches an agent, when it is told to; else it builds the real binaries for the tests.
func TestMain(m *testing.M) {
	if mode := os.Getenv(callerMode); mode != "" {
		os.Exit(beCaller(mode))
	}
	dir, err := os.MkdirTemp("", "pb")
	if err == nil {
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot build the binaries:", err)
		os.Exit(1)
	}
	_ = os.Setenv("PITBOSS_BINARY", filepath.Join(dir, "pitboss"))
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

func build(dir string) error {
	for name, source := range map[string]string{"pitboss": "../../cmd/agent", "pitboss-watchdog": "../../cmd/watchdog"} {
		c := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, name), source)
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

const tools = `
import time
from typing import Any
import pitboss

@pitboss.tool
def echo(value: Any) -> Any:
    return value

@pitboss.tool
def kind(value: Any) -> str:
    return type(value).__name__

@pitboss.tool
def count(n: int):
    for i in range(n):
        yield {"i": i}
    return n

@pitboss.tool
def fails(retryable: bool):
    raise pitboss.ToolError("the disk is full", reason="DISK_FULL", data={"free": 0}, retryable=retryable)

@pitboss.tool
def nap(seconds: float) -> None:
    time.sleep(seconds)

@pitboss.tool
def touch(file: str) -> None:
    open(file, "w").close()
    time.sleep(600)
`

// dial starts a real agent with real workers in this process and connects to its socket.
func dial(t *testing.T) *client.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "pb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file := filepath.Join(dir, "tools.py")
	if err := os.WriteFile(file, []byte(tools), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, pool := agent.Default(), agent.DefaultPool()
	pool.Name, pool.Adapter, pool.Workdir, pool.Guard, pool.Workers = "default", file, dir, "group", 1
	pool.Timeouts.Kill = 300 * time.Millisecond
	cfg.Pools = []agent.PoolConfig{pool}
	socket := filepath.Join(dir, "s")
	a, err := agent.New(agent.Options{Config: cfg, Socket: socket, RuntimeDir: filepath.Join(dir, "run"), GuardFD: -1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(context.Background()) }()
	t.Cleanup(func() {
		a.Stop("end of the test")
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if err := a.WaitReady(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(within(t, 10*time.Second), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

type point struct {
	X    int     `json:"x"`
	Y    float64 `json:"y"`
	Name string  `json:"name,omitempty"`
}

// TestValuesGoToPythonAndBack: what Go sends arrives as the Python type that it is, and comes back as it was.
func TestValuesGoToPythonAndBack(t *testing.T) {
	c := dial(t)
	ctx := within(t, 60*time.Second)
	for _, v := range []struct {
		in   any
		kind string
	}{
		{nil, "NoneType"}, {true, "bool"}, {42, "int"}, {-7, "int"}, {1.0, "float"}, {0.1, "float"}, {1e300, "float"},
		{"äöü\n", "str"}, {[]byte{0, 255, 10}, "bytes"}, {[]any{1.0, "a", nil}, "list"}, {map[string]any{"a": 1.0}, "dict"},
		{point{X: 1, Y: 2}, "dict"}, {&point{X: 3}, "dict"}, {map[string]any{"$part": 0.0}, "dict"},
		{json.RawMessage(`{"raw":[1,2]}`), "dict"}, {math.MaxInt64, "int"},
	} {
		kind, err := client.Call[string](ctx, c, "kind", map[string]any{"value": v.in})
		if err != nil || kind != v.kind {
			t.Errorf("%#v arrived as %q, want %q: %v", v.in, kind, v.kind, err)
		}
		value, err := client.Encode(map[string]any{"value": v.in})
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.CallRaw(ctx, client.Request{Tool: "echo", Args: value})
		if err != nil {
			t.Fatalf("%#v: %v", v.in, err)
		}
		out := reflect.ValueOf(new(any))
		if v.in != nil {
			out = reflect.New(reflect.TypeOf(v.in))
		}
		if err := client.Decode(r.Value, out.Interface()); err != nil {
			t.Errorf("%#v: %v from %s", v.in, err, r.JSON)
			continue
		}
		if got := out.Elem().Interface(); !reflect.DeepEqual(got, v.in) && !sameJSON(got, v.in) {
			t.Errorf("%#v came back as %#v (%s)", v.in, got, r.JSON)
		}
	}
	for _, f := range []float64{math.Inf(1), math.Inf(-1), math.NaN()} {
		if kind, err := client.Call[string](ctx, c, "kind", map[string]any{"value": f}); err != nil || kind != "float" {
			t.Errorf("%v arrived as %q: %v", f, kind, err)
		}
	}
	if _, err := client.Encode(map[int]int{1: 2}); err == nil || !strings.Contains(err.Error(), "keys must be strings") {
		t.Errorf("a map with int keys: %v", err)
	}
	if _, err := client.Encode(map[string]any{"f": func() {}}); err == nil {
		t.Error("a function was encoded")
	}
}

func sameJSON(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

func TestAStreamInOrder(t *testing.T) {
	c := dial(t)
	ctx := within(t, 60*time.Second)
	value, err := client.Encode(map[string]any{"n": 500})
	if err != nil {
		t.Fatal(err)
	}
	next := 0
	r, err := c.StreamRaw(ctx, client.Request{Tool: "count", Args: value}, func(item client.Value) error {
		var got struct{ I int }
		if err := client.Decode(item, &got); err != nil || got.I != next {
			t.Errorf("item %d is %s: %v", next, item.JSON, err)
		}
		next++
		return nil
	})
	if err != nil || next != 500 || string(r.JSON) != "500" || r.Call == 0 || r.Worker == "" {
		t.Errorf("%d items, end %+v %v", next, r, err)
	}
	stop := errors.New("enough")
	if _, err := c.StreamRaw(ctx, client.Request{Tool: "count", Args: value}, func(client.Value) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a client that stops gets %v", err)
	}
}

// TestErrorsAreTyped: everything that the agent says of a failure reaches errors.As.
func TestErrorsAreTyped(t *testing.T) {
	c := dial(t)
	ctx := within(t, 60*time.Second)
	fails := func(tool string, in any, timeout time.Duration, want client.Reason) *client.Error {
		t.Helper()
		value, err := client.Encode(in)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.CallRaw(ctx, client.Request{Tool: tool, Args: value, Timeout: timeout})
		var e *client.Error
		if !errors.As(err, &e) || e.Reason != want {
			t.Fatalf("%s: %v, want %s", tool, err, want)
		}
		return e
	}
	e := fails("fails", map[string]any{"retryable": true}, 0, client.ToolRaised)
	if e.Tool != "fails" || e.ToolReason != "DISK_FULL" || e.Type != "pitboss.ToolError" || !strings.Contains(e.Message, "the disk is full") || string(e.Data) != `{"free":0}` || !e.MayHaveRun || e.Call == 0 {
		t.Errorf("%+v", e)
	}
	if e := fails("echo", map[string]any{"other": 1}, 0, client.BadArguments); e.MayHaveRun {
		t.Errorf("%+v", e)
	}
	fails("count", map[string]any{"n": 1}, 0, client.BadArguments)
	fails("nothing", nil, 0, client.UnknownTool)
	fails("elsewhere/echo", nil, 0, client.UnknownPool)
	if e := fails("nap", map[string]any{"seconds": 60}, 500*time.Millisecond, client.CallTimeout); !strings.Contains(e.Traceback, "in nap") || len(e.PostMortem) == 0 {
		t.Errorf("%+v", e)
	}
	// The deadline of ctx is the call's own budget: the agent's answer is heard, not the transport's.
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	_, err := client.Call[any](short, c, "nap", map[string]any{"seconds": 60})
	if !errors.As(err, &e) || e.Reason != client.CallTimeout || e.Worker == "" {
		t.Errorf("%v", err)
	}
}

func TestLookingAtAnAgent(t *testing.T) {
	c := dial(t)
	ctx := within(t, 60*time.Second)
	listed, err := c.Tools(ctx, "")
	if err != nil || len(listed) != 6 || listed[0].Name != "count" || !listed[0].Stream || listed[0].Params[0].Type != "int" {
		t.Errorf("%+v %v", listed, err)
	}
	text, err := c.Status(ctx)
	var st agent.Status
	if err != nil || json.Unmarshal(text, &st) != nil || st.Schema != agent.StatusSchema {
		t.Fatalf("%s %v", text, err)
	}
	worker := st.Pools[0].Workers[0]
	pong, err := c.Ping(ctx, worker.ID)
	if err != nil || int(pong.PID) != worker.PID || pong.RTT <= 0 || pong.Verdict != "healthy" {
		t.Errorf("%+v %v", pong, err)
	}
	var e *client.Error
	if _, err := c.Ping(ctx, "nobody"); !errors.As(err, &e) || e.Reason != client.UnknownWorker {
		t.Errorf("%v", err)
	}
}

func TestNobodyThere(t *testing.T) {
	if _, err := client.Dial(context.Background(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	for _, c := range []struct{ socket, xdg, want string }{
		{"/a", "/b", "/a"}, {"", "/b", "/b/pitboss/agent.sock"}, {"", "", "/run/pitboss/agent.sock"},
	} {
		env := map[string]string{"PITBOSS_SOCKET": c.socket, "XDG_RUNTIME_DIR": c.xdg}
		if got := client.DefaultSocket(func(name string) string { return env[name] }); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
