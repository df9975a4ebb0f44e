package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/chaos"
)

// hanging holds the tools of a worker whose files lie on a file system that does not answer.
const hanging = `
import os, subprocess, time
import pitboss

@pitboss.tool
def look(file: str) -> int:
    return os.stat(file).st_size

@pitboss.tool
def child_looks(file: str, begun: str) -> int:
    subprocess.Popen(["stat", file])
    open(begun, "w").close()
    time.sleep(600)
    return 0

@pitboss.tool
def pid() -> int:
    return os.getpid()
`

const hangingPools = `
watchdog: {agent_timeout: 3s}
pools:
  - {name: default, adapter: hanging.py, workers: 2, timeouts: {kill: 300ms, drain: 5s}}
  - {name: other, adapter: hanging.py, workers: 1, timeouts: {kill: 300ms, drain: 5s}}
`

// hangingFS is a file system that does not answer until the test ends, or before by its Answer.
func (h *host) hangingFS() *chaos.HangingFS {
	h.t.Helper()
	if why := chaos.CannotHang(); why != "" {
		h.t.Skip(why)
	}
	dir := h.path("mount")
	must(h.t, os.MkdirAll(dir, 0o755))
	fs, err := chaos.NewHangingFS(dir)
	must(h.t, err)
	h.t.Cleanup(fs.Close)
	must(h.t, os.WriteFile(h.path("hanging.py"), []byte(hanging), 0o644))
	return fs
}

// workerOf is the worker of a pool in this state, if there is one.
func (h *host) workerOf(pool, state string) (found agent.WorkerStatus, ok bool) {
	st, _ := h.status()
	for _, p := range st.Pools {
		for _, w := range p.Workers {
			if p.Name == pool && w.State == state {
				return w, true
			}
		}
	}
	return found, false
}

func inState(pid int, state byte) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	at := strings.LastIndexByte(string(text), ')')
	return err == nil && at > 0 && at+2 < len(text) && text[at+2] == state
}

func (h *host) isReady(pool string) bool {
	st, ok := h.status()
	for _, p := range st.Pools {
		ok = ok && (p.Name != pool || p.State == "ready")
	}
	return ok
}

// TestAnUnkillableWorkerIsReplaced: the caller learns where the kernel holds it, a substitute serves, nobody else notices, and when the
// file system answers at last it is collected like any other.
func TestAnUnkillableWorkerIsReplaced(t *testing.T) {
	h := newHost(t)
	fs := h.hangingFS()
	s := h.serve(hangingPools)
	before, _ := s.status()
	began := time.Now()
	e := h.pitboss("call", "default/look", "file="+fs.Path("x"), "--timeout", "1s")
	took := time.Since(began)
	e.want(t, exitTemporary, "CALL_TIMEOUT", "outlives SIGKILL", "uninterruptible sleep", "request_wait_answer")
	if took > time.Second+3*time.Second {
		t.Errorf("the caller waited %s", took)
	}
	h.await("replaced", func() bool {
		_, stuck := h.workerOf("default", "unkillable")
		return stuck && h.isReady("default")
	})
	w, _ := h.workerOf("default", "unkillable")
	if !inState(w.PID, 'D') || !strings.Contains(w.Unkillable, "request_wait_answer") || !strings.Contains(w.Unkillable, strconv.Itoa(w.PID)) {
		t.Errorf("%+v", w)
	}
	for _, pool := range []string{"default", "other"} {
		for range 4 {
			h.pitboss("call", pool+"/pid").want(t, 0)
		}
	}
	after, _ := s.status()
	if after.Pools[1].Workers[0].PID != before.Pools[1].Workers[0].PID || after.Pools[0].LauncherPID != before.Pools[0].LauncherPID {
		t.Errorf("somebody else was touched: %+v", after.Pools)
	}
	if text := s.log(); !strings.Contains(text, "worker.unkillable") || !strings.Contains(text, `"wchan":"request_wait_answer"`) {
		t.Errorf("log:\n%s", text)
	}
	h.pitboss("restart", "--pool", "default").want(t, 0)
	h.pitboss("scale", "default", "1").want(t, 0)
	h.pitboss("drain", "--pool", "default").want(t, 0)
	h.pitboss("resume", "--pool", "default").want(t, 0)

	fs.Answer()
	h.await("collected", func() bool { _, stuck := h.workerOf("default", "unkillable"); return !stuck })
	h.await("told", func() bool {
		exited, cleaned := false, false
		for _, e := range h.events() {
			if strings.Contains(string(e.Fields), w.ID) {
				exited = exited || e.Name == "worker.exited"
				cleaned = cleaned || e.Name == "cleanup.completed" && strings.Contains(string(e.Fields), "ECHILD")
			}
		}
		return exited && cleaned
	})
	if inState(w.KeeperPID, 'S') {
		t.Error("its keeper is left")
	}
	h.pitboss("stop").want(t, 0)
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestAnUnkillableChildKeepsNobody: the worker is dead, what it has left is not; its keeper names it and goes, the launcher lives, and
// calls go on.
func TestAnUnkillableChildKeepsNobody(t *testing.T) {
	h := newHost(t)
	fs := h.hangingFS()
	s := h.serve(hangingPools)
	before, _ := s.status()
	h.pitboss("call", "default/child_looks", "file="+fs.Path("x"), "begun="+h.path("begun"), "--timeout", "1s").want(t, exitTemporary, "CALL_TIMEOUT")
	h.await("told", func() bool { return strings.Contains(s.log(), "cleanup.survivor") })
	if text := s.log(); !strings.Contains(text, `"state":"D"`) || !strings.Contains(text, `"wchan":"request_wait_answer"`) {
		t.Errorf("log:\n%s", text)
	}
	h.await("replaced", func() bool { return h.isReady("default") })
	h.pitboss("call", "default/pid").want(t, 0)
	if !processLives(before.Pools[0].LauncherPID) {
		t.Error("the launcher is gone")
	}
	h.pitboss("restart", "--pool", "default").want(t, 0)
	h.pitboss("call", "default/pid").want(t, 0)
	if text := s.log(); strings.Contains(text, "keeper.killed") || strings.Contains(text, "pool.launcher.killed") {
		t.Errorf("log:\n%s", text)
	}
	fs.Answer()
	h.pitboss("stop").want(t, 0)
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if left := h.alive(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func processLives(pid int) bool { return syscall.Kill(pid, 0) == nil && !inState(pid, 'Z') }

// TestAToolThatAlwaysHangsDoesNotFillTheHost: a pool has no more unkillable workers than it should have workers, and one.
func TestAToolThatAlwaysHangsDoesNotFillTheHost(t *testing.T) {
	h := newHost(t)
	fs := h.hangingFS()
	s := h.serve(`pools: [{name: default, adapter: hanging.py, workers: 1, timeouts: {kill: 300ms}}]`)
	for i := range 2 {
		h.pitboss("call", "look", "file="+fs.Path("x"), "--timeout", "500ms").want(t, exitTemporary, "outlives SIGKILL")
		h.await("verdict", func() bool { return strings.Count(s.log(), "worker.unkillable") == i+1 })
		if i == 0 {
			h.await("replaced", func() bool { return h.isReady("default") })
		}
	}
	h.await("failed", func() bool { st, ok := h.status(); return ok && st.Pools[0].State == "failed" })
	h.pitboss("call", "pid").want(t, exitUnavailable, "POOL_FAILED", "2 workers", "outlive SIGKILL")
	fs.Answer()
	h.await("ready", func() bool { return h.isReady("default") })
	h.pitboss("call", "pid").want(t, 0)
}

// TestAStopLeavesTheUnkillableBehind in bounded time, and says so; then the next agent starts above it and names it.
func TestAStopLeavesTheUnkillableBehind(t *testing.T) {
	for _, how := range []string{"stop", "kill"} {
		t.Run(how, func(t *testing.T) {
			h := newHost(t)
			fs := h.hangingFS()
			s := h.serve(hangingPools)
			h.pitboss("call", "default/look", "file="+fs.Path("x"), "--timeout", "500ms").want(t, exitTemporary)
			h.await("verdict", func() bool { _, stuck := h.workerOf("default", "unkillable"); return stuck })
			w, _ := h.workerOf("default", "unkillable")
			st, _ := h.status()
			bound := 300*time.Millisecond + 500*time.Millisecond + 5*time.Second // grace, slack of the watchdog, its wait for death
			began := time.Now()
			if how == "kill" {
				must(t, syscall.Kill(st.Agent.PID, syscall.SIGKILL))
			} else {
				bound += 8 * time.Second // the workers, the launcher's end
				must(t, syscall.Kill(st.Watchdog.PID, syscall.SIGTERM))
			}
			if code := s.exit(); code != exitInternal {
				t.Errorf("exit code %d", code)
			}
			if took := time.Since(began); took > bound+2*time.Second {
				t.Errorf("it took %s; log:\n%s", took, s.log())
			}
			log := s.log()
			for _, want := range []string{`"survivors":[{`, fmt.Sprintf(`"pid":%d,`, w.PID), `"state":"D"`, `"wchan":"request_wait_answer"`, `"proof":"none"`} {
				if !strings.Contains(log, want) {
					t.Errorf("no %s in\n%s", want, log)
				}
			}
			if how == "stop" && !strings.Contains(log, "cannot end 1 process") {
				t.Errorf("the agent did not say it:\n%s", log)
			}
			if left := h.alive(); len(left) != 1 || left[0] != w.PID {
				t.Errorf("left: %v, want %d", left, w.PID)
			}
			next := h.serve(hangingPools)
			if st, _ := h.status(); st.Swept == nil || len(st.Swept.Left) != 1 || st.Swept.Left[0] != w.PID {
				t.Errorf("%+v", st.Swept)
			}
			h.pitboss("call", "default/pid").want(t, 0)
			fs.Answer()
			h.pitboss("stop").want(t, 0)
			next.exit()
		})
	}
}

// TestALauncherInUninterruptibleSleep: a preload from a file system that does not answer. The pool fails at the start deadline, no more
// than three such processes come together, a stop is bounded, and the pool starts when the file system answers.
func TestALauncherInUninterruptibleSleep(t *testing.T) {
	h := newHost(t)
	fs := h.hangingFS()
	must(t, os.WriteFile(h.path("slow_preload.py"), []byte("import os\nos.path.exists("+strconv.Quote(fs.Path("x"))+")\n"), 0o644))
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(`
pools:
  - {name: default, adapter: hanging.py, workers: 1, timeouts: {kill: 300ms, drain: 5s}}
  - {name: stuck, adapter: hanging.py, preload: [slow_preload], workers: 1, timeouts: {start: 5s, kill: 300ms, drain: 5s}}
`), 0o644))
	s := h.start(h.command("pitboss", "agent", "--config", "pitboss.yaml"))
	for n := range 3 {
		h.await(fmt.Sprintf("verdict on launcher %d", n+1), func() bool { return strings.Count(s.log(), "pool.launcher.unkillable") > n })
	}
	h.await("failed", func() bool {
		st, ok := h.status()
		return ok && st.Pools[1].State == "failed" && strings.Contains(st.Pools[1].Reason, "outlive SIGKILL")
	})
	h.pitboss("call", "default/pid").want(t, 0)
	h.pitboss("call", "stuck/pid").want(t, exitUnavailable, "POOL_FAILED", "3 launchers", "outlive SIGKILL", "state D")
	fs.Answer()
	h.await("ready", func() bool { return h.isReady("stuck") })
	h.pitboss("call", "stuck/pid").want(t, 0)
	h.pitboss("stop").want(t, 0)
	s.exit()
}

// TestAStopWithALauncherInUninterruptibleSleep is bounded.
func TestAStopWithALauncherInUninterruptibleSleep(t *testing.T) {
	h := newHost(t)
	fs := h.hangingFS()
	must(t, os.WriteFile(h.path("slow_preload.py"), []byte("import os\nos.path.exists("+strconv.Quote(fs.Path("x"))+")\n"), 0o644))
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(`
pools:
  - {name: stuck, adapter: hanging.py, preload: [slow_preload], workers: 1, timeouts: {start: 60s, kill: 300ms, drain: 5s}}
`), 0o644))
	s := h.start(h.command("pitboss", "agent", "--config", "pitboss.yaml"))
	h.await("asked", func() bool { return fs.Asked() == 1 })
	st, _ := h.status()
	launcher := st.Pools[0].LauncherPID
	began := time.Now()
	must(t, s.cmd.Process.Signal(syscall.SIGTERM))
	if code := s.exit(); code != exitInternal {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(began); took > 18*time.Second {
		t.Errorf("it took %s", took)
	}
	if log := s.log(); !strings.Contains(log, fmt.Sprintf(`"survivors":[{"pid":%d`, launcher)) || !strings.Contains(log, "cannot end 1 process") {
		t.Errorf("log:\n%s", log)
	}
	fs.Answer()
}

// escaping is an adapter whose worker leaves a child behind that left its session and has an empty environment.
const escaping = `
import os, subprocess
import pitboss

class Escaping(pitboss.Adapter):
    def setup(self):
        self.child = subprocess.Popen(["sleep", "611"], start_new_session=True, env={})

    @pitboss.tool
    def child_pid(self) -> int:
        return self.child.pid
`

// TestAnAgentInUninterruptibleSleep: one of its threads hangs in the kernel when it is killed, so the process does not end, its sockets
// stay open and its children stay its own. The watchdog ends everything below it all the same, and names it.
func TestAnAgentInUninterruptibleSleep(t *testing.T) {
	h := newHost(t)
	fs := h.hangingFS()
	must(t, os.WriteFile(h.path("escaping.py"), []byte(escaping), 0o644))
	s := h.serve(`
watchdog: {agent_timeout: 3s}
pools: [{name: default, adapter: escaping.py, workers: 2, timeouts: {kill: 300ms}}]
`)
	st, _ := h.status()
	var below []int
	for _, w := range st.Pools[0].Workers {
		below = append(append(below, w.PID, w.KeeperPID), children(t, w.PID)...)
	}
	if len(below) != 6 {
		t.Fatalf("%d processes below the launcher", len(below))
	}
	below = append(below, st.Pools[0].LauncherPID)
	must(t, os.Remove(h.path("pitboss.yaml")))
	must(t, os.Symlink(fs.Path("x"), h.path("pitboss.yaml")))
	must(t, syscall.Kill(st.Agent.PID, syscall.SIGHUP))
	h.await("asked", func() bool { return fs.Asked() == 1 })
	h.pitboss("call", "child_pid").want(t, 0) // it serves on
	began := time.Now()
	must(t, syscall.Kill(st.Agent.PID, syscall.SIGKILL))
	if code := s.exit(); code != exitInternal {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(began); took > 3*time.Second+2*time.Second+2*5*time.Second+5*time.Second { // silence, stacks, two waits for death; noise
		t.Errorf("it took %s", took)
	}
	for _, pid := range below {
		if processLives(pid) {
			t.Errorf("process %d is left; log:\n%s", pid, s.log())
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	log := s.log()
	for _, want := range []string{`"survivor_count":1,`, fmt.Sprintf(`"survivors":[{"pid":%d,`, st.Agent.PID), `"state":"D"`, `"wchan":"request_wait_answer"`} {
		if !strings.Contains(log, want) {
			t.Errorf("no %s in\n%s", want, log)
		}
	}
	fs.Answer()
	h.await("gone", func() bool { return syscall.Kill(st.Agent.PID, 0) != nil || inState(st.Agent.PID, 'Z') })
}
