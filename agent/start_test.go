package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// probing makes a failed pool try again soon.
func probing(every time.Duration) func(*Agent) {
	return func(a *Agent) {
		for _, p := range a.allPools() {
			p.loop.probe = every
		}
	}
}

func write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// attempts is how many lines the misbehaving code has left in its file: one for each time that it was run.
func attempts(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Count(string(text), "\n")
}

// broken is Python that counts its run in the file "tries" of its working directory, and does bad unless "mended" is there.
const broken = `
import os, time
HERE = os.path.dirname(os.path.abspath(__file__))
def break_unless_mended(bad):
    with open(os.path.join(HERE, "tries"), "a") as f:
        f.write("x\n")
    if not os.path.exists(os.path.join(HERE, "mended")):
        exec(bad)
`

const addTool = `
import pitboss
@pitboss.tool
def add(a: int, b: int) -> int:
    return a + b
`

const modelTool = `
import pitboss
class Model(pitboss.Adapter):
    def setup(self):
        break_unless_mended("%s")
    @pitboss.tool
    def add(self, a: int, b: int) -> int:
        return a + b
`

// neverReady are the ways not to become ready; want is in the traceback or the message of who calls then.
var neverReady = []struct {
	name, tools, want, kind string
	change                  func(t *testing.T, p *PoolConfig)
}{
	{"import raises", broken + `break_unless_mended("raise RuntimeError('no model')")` + addTool, "no model", "RuntimeError", nil},
	{"setup raises", broken + fmt.Sprintf(modelTool, "raise OSError('no device')"), "no device", "OSError", nil},
	{"setup hangs", broken + fmt.Sprintf(modelTool, "time.sleep(3600)"), "in setup", "", func(_ *testing.T, p *PoolConfig) { p.Timeouts.Start = time.Second }},
	{"worker dies", broken + `break_unless_mended("os.kill(os.getpid(), 9)")` + addTool, "SIGKILL", "", nil},
	{"preload raises", addTool, "no library", "", func(t *testing.T, p *PoolConfig) {
		write(t, filepath.Join(p.Workdir, "heavy.py"), broken+`break_unless_mended("raise ImportError('no library')")`, 0o600)
		p.Preload = []string{"heavy"}
	}},
	{"wrapper", addTool, "is a wrapper", "PYTHON_IS_WRAPPER", func(t *testing.T, p *PoolConfig) {
		real, err := findInterpreter("", p.Workdir, os.Getenv)
		if err != nil {
			t.Fatal(err)
		}
		p.Python = filepath.Join(p.Workdir, "wrapper")
		write(t, p.Python, fmt.Sprintf("#!/bin/sh\ncd '%s'\necho x >>tries\n[ -e mended ] && exec '%s' \"$@\"\n'%s' \"$@\"\n", p.Workdir, real.path, real.path), 0o700)
	}},
	{"no interpreter", addTool, "exited with code 1", "", func(t *testing.T, p *PoolConfig) {
		real, err := findInterpreter("", p.Workdir, os.Getenv)
		if err != nil {
			t.Fatal(err)
		}
		p.Python = filepath.Join(p.Workdir, "other")
		write(t, p.Python, fmt.Sprintf("#!/bin/sh\ncd '%s'\necho x >>tries\n[ -e mended ] && exec '%s' \"$@\"\nexit 1\n", p.Workdir, real.path), 0o700)
	}},
}

// A pool that cannot start fails after three tries, its callers have the reason at once, and it recovers by itself.
func TestAPoolThatNeverStartsFailsWithItsTracebackAndRecovers(t *testing.T) {
	for _, c := range neverReady {
		t.Run(c.name, func(t *testing.T) {
			var dir string
			a := startTestAgent(t, c.tools, func(p *PoolConfig) {
				dir = p.Workdir
				if c.change != nil {
					c.change(t, p)
				}
			}, probing(1500*time.Millisecond))
			err := a.WaitReady(within(t, 40*time.Second))
			tried := attempts(t, filepath.Join(dir, "tries"))
			e := wantReason(t, err, PoolFailed)
			if tried != startTries {
				t.Errorf("failed after %d tries", tried)
			}
			if e.Type != c.kind || e.RetryAfter <= 0 || !strings.Contains(e.Message+e.Traceback, c.want) {
				t.Errorf("%q %q\n%s", e.Type, e.Message, e.Traceback)
			}
			quickest := time.Hour
			for range 3 {
				start := time.Now()
				if e := callFails(t, a, request("add", `{}`), PoolFailed); !strings.Contains(e.Message+e.Traceback, c.want) {
					t.Errorf("%q\n%s", e.Message, e.Traceback)
				}
				quickest = min(quickest, time.Since(start))
			}
			if quickest > 50*time.Millisecond {
				t.Errorf("the call failed after %s", quickest)
			}
			if s := a.Status().Pools[0]; s.State != "failed" || s.Reason == "" {
				t.Errorf("status %+v", s)
			}
			write(t, filepath.Join(dir, "mended"), "", 0o600)
			await(t, 30*time.Second, "recovered", func() bool { return a.Status().Pools[0].State == "ready" })
			serves(t, a, 2*time.Second)
		})
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// fewest is the smallest number of descriptors seen until the file has that many lines: between two starts.
func fewest(t *testing.T, file string, lines int) int {
	t.Helper()
	least := 1 << 20
	await(t, time.Minute, "tried", func() bool {
		least = min(least, descriptors(t))
		return attempts(t, file) >= lines
	})
	return least
}

func TestFailingStartsLoseNoDescriptor(t *testing.T) {
	starts := map[string]int{"import raises": 50, "wrapper": 12} // of a worker, which is quick, and of a launcher
	for _, c := range neverReady {
		if starts[c.name] == 0 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			var dir string
			a := startTestAgent(t, c.tools, func(p *PoolConfig) {
				dir = p.Workdir
				if c.change != nil {
					c.change(t, p)
				}
			}, probing(20*time.Millisecond))
			wantReason(t, a.WaitReady(within(t, 40*time.Second)), PoolFailed)
			tries := filepath.Join(dir, "tries")
			before := fewest(t, tries, 6)
			fewest(t, tries, 6+starts[c.name])
			if after := fewest(t, tries, 6+starts[c.name]+4); after > before {
				t.Errorf("%d descriptors after the first failed starts, %d after %d more", before, after, starts[c.name])
			}
		})
	}
}

func TestStartByExec(t *testing.T) {
	a := startTestAgent(t, testTools, func(p *PoolConfig) { p.Start, p.Workers = "exec", 2 })
	waitReady(t, a)
	serves(t, a, 5*time.Second)
	if s := a.Status().Pools[0]; s.StartMethod != "exec" || s.StartRefusal != "" {
		t.Errorf("status %+v", s)
	}
	if e := callFails(t, a, request("segfault", `{}`), WorkerDied); !strings.Contains(e.Traceback, "in segfault") {
		t.Errorf("%+v", e)
	}
	serves(t, a, 5*time.Second)
}

const whereTools = `
import os, heavy, pitboss
@pitboss.tool
def imported_by() -> int:
    return heavy.PID
@pitboss.tool
def add(a: int, b: int) -> int:
    return a + b
`

func preloading(t *testing.T, text string) func(*PoolConfig) {
	return func(p *PoolConfig) {
		write(t, filepath.Join(p.Workdir, "heavy.py"), "import os, threading, time\nPID = os.getpid()\n"+text, 0o600)
		p.Preload = []string{"heavy"}
	}
}

func TestPreloadHappensOnceInTheLauncher(t *testing.T) {
	a := startTestAgent(t, whereTools, preloading(t, ""))
	waitReady(t, a)
	s := a.Status().Pools[0]
	r, err := a.Call(within(t, 20*time.Second), request("imported_by", `{}`))
	if err != nil || string(r.JSON) != fmt.Sprint(s.LauncherPID) || s.StartMethod != "fork" {
		t.Errorf("%v %v; %+v", r, err, s)
	}
}

func TestAPreloadedThreadRefusesTheFork(t *testing.T) {
	a := startTestAgent(t, whereTools, preloading(t, "threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n"))
	waitReady(t, a)
	s := a.Status().Pools[0]
	if s.StartMethod != "exec" || !strings.HasPrefix(s.StartRefusal, "THREADS: ") || !strings.Contains(s.StartRefusal, "'heavy'") {
		t.Errorf("status %+v", s)
	}
	r, err := a.Call(within(t, 20*time.Second), request("imported_by", `{}`))
	if err != nil || string(r.JSON) != fmt.Sprint(s.Workers[0].PID) {
		t.Errorf("%v %v; %+v", r, err, s)
	}
}

func TestAThreadFromAnAtForkHookIsRefusedByTheKeeper(t *testing.T) {
	a := startTestAgent(t, whereTools, preloading(t,
		"os.register_at_fork(after_in_child=lambda: threading.Thread(target=time.sleep, args=(3600,), daemon=True).start())\n"))
	e := wantReason(t, a.WaitReady(within(t, 40*time.Second)), PoolFailed)
	if !strings.Contains(e.Message, "THREADS") || !strings.Contains(e.Message, "at-fork hook") {
		t.Errorf("%+v", e)
	}
}

func TestEnvTemplatesAreFilledForEachWorker(t *testing.T) {
	a := startTestAgent(t, `
import os, pitboss
@pitboss.tool
def place() -> str:
    return os.environ["PLACE"] + "," + os.environ["PLAIN"]
`, func(p *PoolConfig) {
		p.Workers, p.Env = 2, map[string]string{"PLACE": "{{.Pool}}/{{.Index}}", "PLAIN": "a b"}
	})
	waitReady(t, a)
	got := map[string]bool{}
	for range 2 { // the one that has been idle longest first
		r, err := a.Call(within(t, 20*time.Second), request("place", `{}`))
		if err != nil {
			t.Fatal(err)
		}
		got[string(r.JSON)] = true
	}
	if !got[`"default/0,a b"`] || !got[`"default/1,a b"`] {
		t.Errorf("%v", got)
	}
}

func TestNoInterpreterIsAnErrorOfNew(t *testing.T) {
	dir := t.TempDir()
	p := DefaultPool()
	p.Name, p.Adapter, p.Workdir, p.Python, p.Guard = "default", "tools.py", dir, filepath.Join(dir, "python9"), "group"
	cfg := Default()
	cfg.Pools = []PoolConfig{p}
	_, err := New(Options{Config: cfg, RuntimeDir: filepath.Join(dir, "run"), GuardFD: -1})
	if err == nil || !strings.Contains(err.Error(), `cannot find the interpreter "`+p.Python) {
		t.Errorf("%v", err)
	}
}

func TestAnAgentBelowTheDemandedTierDoesNotStart(t *testing.T) {
	for name, c := range map[string]struct{ require, guard, text string }{
		"watchdog.require": {"tree", "group", `watchdog.require says "tree"`}, "pools[].guard": {"", "tree", `its guard says "tree"`},
	} {
		p := DefaultPool()
		p.Name, p.Guard = "default", c.guard
		cfg := Default()
		cfg.Pools, cfg.Watchdog.Require = []PoolConfig{p}, c.require
		_, err := New(Options{Config: cfg, RuntimeDir: filepath.Join(t.TempDir(), "run"), GuardFD: -1})
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAFailedPoolLeavesTheOthersAlone(t *testing.T) {
	bad := testPool(t, "bad", "raise RuntimeError('no model')\n")
	a := runTestAgent(t, []PoolConfig{testPool(t, "default", testTools), bad})
	await(t, 40*time.Second, "one failed, one ready", func() bool {
		h := a.Health()
		s := a.Status().Pools
		return h["default"] && !h["bad"] && s[0].State == "ready" && s[1].State == "failed"
	})
	for range 20 {
		serves(t, a, 2*time.Second)
	}
	if e := callFails(t, a, request("bad/add", `{}`), PoolFailed); e.Pool != "bad" || !strings.Contains(e.Traceback, "no model") {
		t.Errorf("%+v", e)
	}
	callFails(t, a, request("none/add", `{}`), UnknownPool)
}
