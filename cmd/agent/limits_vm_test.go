//go:build vm

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/agent"
)

// These tests need cgroup v2 with its controllers, which a host that still has v1 does not give: `make test-vm` runs them in a machine
// that has. There they are a delegated service of a plain user.

// greedy holds the tools of a worker that goes beyond its limits.
const greedy = `
import os, subprocess, time
import pitboss

@pitboss.tool
def hold(mib: int) -> int:
    return len(bytearray(mib << 20)) >> 20

@pitboss.tool
def child_holds(mib: int) -> int:
    import sys
    return subprocess.run([sys.executable, "-c", f"bytearray({mib} << 20)"]).returncode

@pitboss.tool
def burn(seconds: float) -> float:
    end, began = time.monotonic() + seconds, time.process_time()
    while time.monotonic() < end:
        pass
    return (time.process_time() - began) / seconds

@pitboss.tool
def forks(n: int) -> str:
    began = []
    try:
        for _ in range(n):
            began.append(subprocess.Popen(["sleep", "600"]))
    except OSError as error:
        return f"{len(began)} {type(error).__name__}"
    finally:
        for p in began:
            p.kill()
            p.wait()
    return str(len(began))
`

// inService makes a delegated cgroup below the one that this process was given, as root of the agent of a test.
func inService(t *testing.T, h *host) string {
	t.Helper()
	text := read(t, "/proc/self/cgroup")
	_, path, ok := strings.Cut(text, "0::")
	if !ok {
		t.Fatalf("no cgroup v2: %s", text)
	}
	own := "/sys/fs/cgroup" + strings.TrimSpace(path)
	base, inner := strings.CutSuffix(own, "/tests")
	if !inner { // the first test of this process leaves the delegated cgroup, so that it may pass controllers on
		must(t, os.Mkdir(own+"/tests", 0o755))
		must(t, os.WriteFile(own+"/tests/cgroup.procs", []byte("0"), 0))
	}
	for _, name := range []string{"memory", "cpu", "pids"} {
		must(t, os.WriteFile(base+"/cgroup.subtree_control", []byte("+"+name), 0))
	}
	dir := base + "/" + h.token
	must(t, os.Mkdir(dir, 0o755))
	h.env = append(h.env, "PITBOSS_CGROUP=delegated")
	return dir
}

func TestLimitsBite(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("greedy.py"), []byte(greedy), 0o644))
	s := h.startIn(inService(t, h), `
watchdog: {require: cgroup}
pools:
  - {name: default, adapter: greedy.py, workers: 1, guard: cgroup, limits: {memory: 96MiB, cpu: 25%, pids: 12}, timeouts: {kill: 300ms}}
  - {name: free, adapter: greedy.py, workers: 1, guard: cgroup, timeouts: {kill: 300ms}}
`)
	s.awaitReady()
	h.await("tried the limits", func() bool {
		st, _ := h.status()
		return len(st.Agent.Limits) == 3 && !slices.ContainsFunc(st.Agent.Limits, func(l agent.LimitStatus) bool { return l.State == "trying" })
	})
	st, _ := h.status()
	for _, l := range st.Agent.Limits {
		if l.State != "enforced" {
			t.Errorf("%+v", l)
		}
	}
	if text := h.pitboss("status").stdout; !strings.Contains(text, "limits    memory, cpu, pids are enforced") {
		t.Errorf("status:\n%s", text)
	}
	h.doctor("--config", "pitboss.yaml").want(t, "limits", gradeOK, "memory, cpu, pids are enforced")

	h.pitboss("call", "default/hold", "mib=8").want(t, 0)
	e := h.pitboss("call", "default/hold", "mib=400")
	e.want(t, exitUnavailable, "WORKER_DIED", "SIGKILL", "out-of-memory killer", "memory.events", "limits.memory is 96MiB")
	if e := h.pitboss("call", "free/hold", "mib=200"); e.stdout != "200\n" {
		t.Errorf("the pool without a limit: %+v", e)
	}
	h.await("a new worker", func() bool { st, _ := h.status(); return st.Pools[0].State == "ready" })
	// A child that is killed is the tool's to see; its worker lives.
	if e := h.pitboss("call", "default/child_holds", "mib=400"); e.stdout != "-9\n" {
		t.Errorf("a greedy child: %+v", e)
	}
	share := func(pool string) (used float64) {
		_, err := fmt.Sscan(h.pitboss("call", pool+"/burn", "seconds=3").stdout, &used)
		must(t, err)
		return used
	}
	if limited, free := share("default"), share("free"); limited > 0.35 || free < 2*limited {
		t.Errorf("used %.2f of a processor with 25%%, %.2f without", limited, free)
	}
	if e := h.pitboss("call", "default/forks", "n=50"); !strings.HasSuffix(e.stdout, "BlockingIOError\"\n") {
		t.Errorf("50 children with room for 12: %+v", e)
	}
	if e := h.pitboss("call", "free/forks", "n=50"); e.stdout != "\"50\"\n" {
		t.Errorf("50 children without a limit: %+v", e)
	}
}

// TestALimitThatIsNotGivenIsSaid: of the controllers that the service manager keeps.
func TestALimitThatIsNotGivenIsSaid(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("greedy.py"), []byte(greedy), 0o644))
	dir := inService(t, h)
	// A cgroup between, which passes on but one of them.
	must(t, os.WriteFile(dir+"/cgroup.subtree_control", []byte("+pids"), 0))
	dir += "/service"
	must(t, os.Mkdir(dir, 0o755))
	s := h.startIn(dir, "pools: [{name: default, adapter: greedy.py, workers: 1, limits: {memory: 96MiB, pids: 50}, timeouts: {kill: 300ms}}]\n")
	s.awaitReady()
	h.await("told", func() bool {
		return strings.Contains(h.pitboss("events", "--prefix", "pool.limit_not_enforced").stdout, "limits.memory")
	})
	st, _ := h.status()
	if void := st.Pools[0].LimitsVoid; len(void) != 1 || !strings.Contains(void[0], "the memory controller was not delegated") {
		t.Errorf("void: %q", void)
	}
}

// TestTheTryTakesLittleTime: nothing waits for it, and a kill in the middle of it leaves nothing.
func TestTheTryTakesLittleTime(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("greedy.py"), []byte(greedy), 0o644))
	began := time.Now()
	s := h.startIn(inService(t, h), "pools: [{name: default, adapter: greedy.py, workers: 1, timeouts: {kill: 300ms}}]\n")
	h.await("tried", func() bool {
		st, ok := h.status()
		return ok && len(st.Agent.Limits) == 3 && !slices.ContainsFunc(st.Agent.Limits, func(l agent.LimitStatus) bool { return l.State == "trying" })
	})
	t.Logf("agent up and all limits tried after %s", time.Since(began).Round(time.Millisecond))
	must(t, s.cmd.Process.Kill())
	s.exit()
}
