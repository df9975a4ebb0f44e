package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestThin(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tools.py")
	os.WriteFile(file, []byte(`
import pitboss, os, ctypes
@pitboss.tool
def add(a: int, b: int) -> int:
    print("adding", a, b)
    return a + b
@pitboss.tool
def count(n: int):
    for i in range(n):
        yield {"i": i}
@pitboss.tool
def die():
    os._exit(3)
@pitboss.tool
def segv():
    ctypes.string_at(0)
@pitboss.tool
def boom():
    raise ValueError("no")
`), 0o644)
	pc := DefaultPool()
	pc.Name, pc.Adapter, pc.Workdir, pc.Guard = "default", file, dir, "group"
	cfg := Default()
	cfg.Pools = []PoolConfig{pc}
	a, err := New(Options{Config: cfg, Socket: filepath.Join(dir, "s"), RuntimeDir: filepath.Join(dir, "run"), GuardFD: -1, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- a.Run(context.Background()) }()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := a.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"add", "boom", "die", "segv", "add"} {
		start := time.Now()
		r, err := a.Call(ctx, &Request{Tool: c, Args: Value{JSON: []byte(map[bool]string{true: `{"a":1,"b":2}`, false: `{}`}[c == "add"])}})
		if err != nil {
			e := err.(*Error)
			js, _ := json.Marshal(e)
			t.Log(c, time.Since(start), string(js))
		} else {
			t.Log(c, time.Since(start), string(r.JSON))
		}
	}
	n := 0
	r, err := a.Stream(ctx, &Request{Tool: "count", Args: Value{JSON: []byte(`{"n":1000}`)}}, func(v *Value) error { n++; return nil })
	t.Log(n, r, err)
	for i := 0; i < 5; i++ {
		start := time.Now()
		for range 2000 {
			a.Call(ctx, &Request{Tool: "boom", Args: Value{JSON: []byte(`{}`)}})
		}
		t.Log("per call", time.Since(start)/2000)
	}
	js, _ := json.MarshalIndent(a.Status(), "", " ")
	t.Log(string(js))
	start := time.Now()
	a.Stop("test")
	t.Log(<-done, time.Since(start))
}
