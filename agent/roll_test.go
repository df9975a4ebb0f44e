package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestARestartedPoolRunsNewCodeAndLosesNoCall(t *testing.T) {
	a, cfg := versionedAgent(t, nil)
	before := workers(a)
	tr := startTraffic(a, 4)
	setCode(t, cfg, versioned("2"))
	ids, err := a.Restart(within(t, 30*time.Second), "", "default")
	if err != nil || len(ids) != 2 {
		t.Fatalf("%v %v", ids, err)
	}
	r, err := a.Call(within(t, 10*time.Second), request("version", `{"nonce":"after"}`))
	if err != nil || string(r.JSON) != `"2"` {
		t.Errorf("after the restart: %v %v", r, err)
	}
	answers := tr.end(t, cfg)
	if answers[`"1"`] == 0 || answers[`"2"`] == 0 {
		t.Errorf("answers %v: the traffic did not see both", answers)
	}
	await(t, 10*time.Second, "rid of the old workers and their launcher", func() bool {
		for _, w := range before {
			if alive(w.PID) || alive(w.KeeperPID) {
				return false
			}
		}
		return len(workers(a)) == 2 && len(listChildren(os.Getpid())) == 1
	})
}

// Code that cannot start ends the restart; the old workers, and only they, serve on.
func TestARestartWithBrokenCodeIsRolledBack(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		change func(*PoolConfig)
		want   string
	}{
		"import":  {text: "raise RuntimeError('broken on purpose')", want: "broken on purpose"},
		"no tool": {text: "x = 1", want: "tool"},
		"preload": {text: versioned("2"), change: func(p *PoolConfig) {
			p.Preload = []string{"heavy"}
			p.Start = "fork"
		}, want: "heavy is broken"},
	} {
		t.Run(name, func(t *testing.T) {
			a, cfg := versionedAgent(t, func(p *PoolConfig) {
				if c.change != nil {
					c.change(p)
					write(t, filepath.Join(p.Workdir, "heavy.py"), "", 0o600)
				}
			})
			before := workers(a)
			tr := startTraffic(a, 2)
			setCode(t, cfg, c.text)
			if c.change != nil {
				write(t, filepath.Join(cfg.Workdir, "heavy.py"), "raise ImportError('heavy is broken')", 0o600)
			}
			_, err := a.Restart(within(t, 30*time.Second), "", "default")
			e := wantReason(t, err, PoolFailed)
			if !strings.Contains(e.Message+e.Traceback, c.want) || !strings.Contains(e.Message, "serve on") {
				t.Errorf("%s\n%s", e.Message, e.Traceback)
			}
			if answers := tr.end(t, cfg); answers[`"2"`] != 0 {
				t.Errorf("answers %v", answers)
			}
			await(t, 10*time.Second, "rid of what was tried", func() bool {
				now := workers(a)
				return len(now) == 2 && now[0].ID == before[0].ID && now[1].ID == before[1].ID && len(listChildren(os.Getpid())) == 1
			})
			if s := a.Status().Pools[0]; s.State != "ready" {
				t.Errorf("the pool is %s: %s", s.State, s.Reason)
			}
		})
	}
}

// A pool that has failed needs no probe: a restart tries at once and says how it went.
func TestARestartMendsAFailedPool(t *testing.T) {
	var cfg PoolConfig
	a := startTestAgent(t, "raise RuntimeError('broken')", func(p *PoolConfig) { cfg = *p }, probing(time.Hour))
	wantReason(t, a.WaitReady(within(t, 40*time.Second)), PoolFailed)
	_, err := a.Restart(within(t, 30*time.Second), "", "default")
	wantReason(t, err, PoolFailed)
	setCode(t, cfg, versioned("1"))
	if _, err := a.Restart(within(t, 30*time.Second), "", "default"); err != nil {
		t.Fatal(err)
	}
	if r, err := a.Call(within(t, 10*time.Second), request("version", `{"nonce":"x"}`)); err != nil || string(r.JSON) != `"1"` {
		t.Errorf("%v %v", r, err)
	}
}

// A busy worker's call ends before its worker does, and its successor serves meanwhile.
func TestARestartedWorkerFinishesItsCall(t *testing.T) {
	a, cfg := versionedAgent(t, func(p *PoolConfig) { p.Workers = 1 })
	old := workers(a)[0]
	running := begin(t, a, request("version", `{"nonce":"long","seconds":2.0}`))
	runs(t, a)
	ids, err := a.Restart(within(t, 30*time.Second), old.ID, "")
	if err != nil || len(ids) != 1 || ids[0] == old.ID {
		t.Fatalf("%v %v", ids, err)
	}
	r, err := a.Call(within(t, 10*time.Second), request("version", `{"nonce":"short"}`))
	if err != nil || r.Worker != ids[0] {
		t.Errorf("%v %v", r, err)
	}
	if o := <-running; o.err != nil || o.result.Worker != old.ID {
		t.Errorf("the running call: %v %v", o.result, o.err)
	}
	await(t, 10*time.Second, "gone", func() bool { return workerOf(a, old.ID) == nil && !alive(old.PID) })
	if ran := linesOf(t, filepath.Join(cfg.Workdir, "ran")); len(ran) != 2 {
		t.Errorf("%v ran", ran)
	}
}

func TestRestartsThatCannotBe(t *testing.T) {
	a, cfg := versionedAgent(t, nil)
	for _, c := range []struct {
		worker, pool string
		want         Reason
		text         string
	}{
		{"", "", BadArguments, "either"},
		{"default-0.1", "default", BadArguments, "either"},
		{"", "other", UnknownPool, "default"},
		{"default-0.9", "", UnknownWorker, "did you mean"},
	} {
		_, err := a.Restart(within(t, 10*time.Second), c.worker, c.pool)
		if e := wantReason(t, err, c.want); !strings.Contains(e.Message, c.text) {
			t.Errorf("%+v: %s", c, e.Message)
		}
	}
	setCode(t, cfg, "import time\ntime.sleep(2)\n"+versioned("2"))
	first := make(chan error, 1)
	ctx := within(t, 30*time.Second)
	go func() { _, err := a.Restart(ctx, "", "default"); first <- err }()
	await(t, 10*time.Second, "begun", func() bool { return len(workers(a)) > 2 })
	_, err := a.Restart(within(t, 10*time.Second), "", "default")
	if e := wantReason(t, err, Draining); e.RetryAfter == 0 {
		t.Errorf("%+v", e)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// A stop in the middle of a restart ends both, and leaves nothing (see startTestAgent).
func TestAStopEndsARestart(t *testing.T) {
	a, cfg := versionedAgent(t, nil)
	setCode(t, cfg, "import time\ntime.sleep(60)\n")
	restarted := make(chan error, 1)
	ctx := within(t, 60*time.Second)
	go func() { _, err := a.Restart(ctx, "", "default"); restarted <- err }()
	await(t, 10*time.Second, "begun", func() bool { return len(workers(a)) > 2 })
	a.Stop("test")
	wantReason(t, <-restarted, Draining)
}

func TestDrainAndResume(t *testing.T) {
	a, cfg := versionedAgent(t, nil)
	pids := map[string]int{}
	for _, w := range workers(a) {
		pids[w.ID] = w.PID
	}
	running := begin(t, a, request("version", `{"nonce":"long","seconds":1.0}`))
	runs(t, a)
	err := a.Drain(within(t, 100*time.Millisecond), "default")
	if e := wantReason(t, err, CallTimeout); !strings.Contains(e.Message, "1 have not ended") {
		t.Error(e.Message)
	}
	if e := callFails(t, a, request("version", `{"nonce":"refused"}`), Draining); !strings.Contains(e.Message, "resume") || e.RetryAfter == 0 {
		t.Errorf("%+v", e)
	}
	if err := a.Drain(within(t, 20*time.Second), ""); err != nil {
		t.Error(err)
	}
	if o := <-running; o.err != nil {
		t.Error(o.err)
	}
	if s := a.Status().Pools[0].State; s != "draining" || a.Health()["default"] {
		t.Errorf("state %q, health %v", s, a.Health())
	}
	if err := a.Resume("default"); err != nil {
		t.Fatal(err)
	}
	waitReady(t, a)
	if r, err := a.Call(within(t, 10*time.Second), request("version", `{"nonce":"after"}`)); err != nil || pids[r.Worker] == 0 {
		t.Errorf("the workers did not stay: %v %v", r, err)
	}
	if ran := strings.Join(linesOf(t, filepath.Join(cfg.Workdir, "ran")), " "); ran != "long after" {
		t.Errorf("%q ran", ran)
	}
}

func TestScale(t *testing.T) {
	a, cfg := versionedAgent(t, nil)
	tr := startTraffic(a, 3)
	for _, n := range []int{5, 1, 3} {
		if err := a.Scale("default", n); err != nil {
			t.Fatal(err)
		}
		await(t, 15*time.Second, "scaled to "+strconv.Itoa(n), func() bool {
			s := a.Status().Pools[0]
			return s.Ready+s.Busy == n && s.Desired == n && len(s.Workers) == n && s.State == "ready"
		})
	}
	tr.end(t, cfg)
	for _, n := range []int{0, -1, maxWorkers + 1} {
		wantReason(t, a.Scale("default", n), BadArguments)
	}
	wantReason(t, a.Scale("other", 1), UnknownPool)
}

func TestReloadPlan(t *testing.T) {
	pool := func(name string, change func(*PoolConfig)) PoolConfig {
		p := DefaultPool()
		p.Name, p.Adapter = name, name+".py"
		if change != nil {
			change(&p)
		}
		return p
	}
	old, next := Default(), Default()
	old.Pools = []PoolConfig{pool("same", nil), pool("size", nil), pool("roll", nil), pool("gone", nil)}
	next.Pools = []PoolConfig{pool("roll", func(p *PoolConfig) { p.Workers++; p.Timeouts.Call++; p.Env = map[string]string{"A": "1"} }),
		pool("same", nil), pool("new", nil), pool("size", func(p *PoolConfig) { p.Workers = 9 })}
	next.Log.Level = "debug"
	plan := planReload(old, next)
	if len(plan.added) != 1 || plan.added[0].Name != "new" || fmt.Sprint(plan.removed) != "[gone]" || fmt.Sprint(plan.resized) != fmt.Sprintf("[{size %d 9}]", DefaultPool().Workers) {
		t.Errorf("%+v", plan)
	}
	if len(plan.rolled) != 1 || fmt.Sprint(plan.keys) != "map[roll:[workers env timeouts.call]]" {
		t.Errorf("rolled %v, keys %v", plan.rolled, plan.keys)
	}
	if fmt.Sprint(plan.later) != "[log.level]" {
		t.Errorf("later %v", plan.later)
	}
	if again := planReload(next, next); len(again.added)+len(again.removed)+len(again.resized)+len(again.rolled)+len(again.later) != 0 {
		t.Errorf("nothing changed, and the plan is %+v", again)
	}
}

func TestReload(t *testing.T) {
	one, two := testPool(t, "one", versioned("1")), testPool(t, "two", versioned("two"))
	next, fault := Default(), errors.New("a fault")
	a := runTestAgent(t, []PoolConfig{one}, func(a *Agent) { a.options.Reload = func() (Config, error) { return next, fault } })
	waitReady(t, a)
	_, err := a.Reload(within(t, 10*time.Second))
	if e := wantReason(t, err, BadArguments); !strings.Contains(e.Message, "nothing was changed: a fault") {
		t.Error(e.Message)
	}
	fault = nil
	reload := func(want string, pools ...PoolConfig) {
		t.Helper()
		next = Default()
		next.Pools = pools
		changes, err := a.Reload(within(t, 30*time.Second))
		if err != nil || strings.Join(changes, "\n") != want {
			t.Fatalf("%v\n%s\nwant\n%s", err, strings.Join(changes, "\n"), want)
		}
	}
	call := func(pool, want string) {
		t.Helper()
		r, err := a.Call(within(t, 10*time.Second), &Request{Pool: pool, Tool: "version", Args: Value{JSON: []byte(`{"nonce":"x"}`)}})
		if err != nil || string(r.JSON) != want {
			t.Errorf("pool %s: %v %v, want %s", pool, r, err, want)
		}
	}
	reload("", one)
	reload(`pool "two": added with 1 workers`, one, two)
	call("two", `"two"`)
	running := begin(t, a, &Request{Pool: "one", Tool: "version", Args: Value{JSON: []byte(`{"nonce":"long","seconds":1.5}`)}})
	one.Workers = 3
	reload(`pool "one": workers 1 to 3`, one, two)
	setCode(t, one, versioned("?")+"\nimport os\nVERSION = os.environ['WHICH']\n")
	one.Env = map[string]string{"WHICH": "new"}
	reload(`pool "one": restarted with new env`, one, two)
	call("one", `"new"`)
	if o := <-running; o.err != nil {
		t.Errorf("the call that ran through it all: %v", o.err)
	}
	broken := one
	broken.Env = map[string]string{}
	next.Pools = []PoolConfig{broken, two}
	_, err = a.Reload(within(t, 30*time.Second))
	wantReason(t, err, PoolFailed)
	call("one", `"new"`)
	slow := begin(t, a, &Request{Pool: "two", Tool: "version", Args: Value{JSON: []byte(`{"nonce":"last","seconds":1.0}`)}})
	await(t, 10*time.Second, "running", func() bool { return a.Running() == 1 })
	reload(`pool "two": removed; its calls come to their end`, one)
	_, err = a.Call(within(t, 10*time.Second), &Request{Pool: "two", Tool: "version", Args: Value{JSON: []byte(`{"nonce":"x"}`)}})
	wantReason(t, err, UnknownPool)
	if o := <-slow; o.err != nil || string(o.result.JSON) != `"two"` {
		t.Errorf("the removed pool's call: %v %v", o.result, o.err)
	}
	missing := one
	missing.Python = "/no/such/python"
	next.Pools = []PoolConfig{missing}
	_, err = a.Reload(within(t, 10*time.Second))
	wantReason(t, err, BadArguments)
	reload("", one)
}
