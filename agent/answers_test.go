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
)

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

func TestAnAgentWithoutPoolsIsUpUntilItIsStopped(t *testing.T) {
	packaged, err := os.ReadFile("../packaging/pitboss.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// The group is the package's; this host need not have it.
	text := strings.Replace(string(packaged), "groups: [pitboss-clients]", "groups: ["+strconv.Itoa(os.Getgid())+"]", 1)
	if err := os.WriteFile(filepath.Join(dir, "pitboss.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(filepath.Join(dir, "pitboss.yaml"))
	if err != nil || !cfg.Access.Shared() {
		t.Fatalf("%+v %v", cfg.Access, err)
	}
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
