package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pitboss-run/pitboss/agent"
)

// children lists the children of a process, zombies too.
func children(t *testing.T, pid int) (pids []int) {
	t.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, name := range files {
		text, _ := os.ReadFile(name)
		for _, field := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(field)
			must(t, err)
			pids = append(pids, child)
		}
	}
	slices.Sort(pids)
	return pids
}

// proc is what /proc/PID/stat says: state, parent, group, session.
type proc struct {
	state                  string
	parent, group, session int
}

func procOf(t *testing.T, pid int) proc {
	t.Helper()
	text := read(t, fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	number := func(s string) int { n, err := strconv.Atoi(s); must(t, err); return n }
	return proc{f[0], number(f[1]), number(f[2]), number(f[3])}
}

// files maps the descriptors of a process to what they are.
func files(t *testing.T, pid int) map[int]string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	must(t, err)
	found := map[int]string{}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		must(t, err)
		if target, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil {
			found[fd] = target
		}
	}
	return found
}

const twoPools = `
pools:
  - {name: one, adapter: tools.py, workers: 2, timeouts: {kill: 300ms}}
  - {name: two, adapter: tools.py, workers: 1, start: exec, timeouts: {kill: 300ms}}
`

// TestTheTree is DESIGN's picture as the kernel sees it, and what `status --json` says is what the kernel says.
func TestTheTree(t *testing.T) {
	h := newHost(t)
	h.env = append(h.env, "LISTEN_PID=1", "LISTEN_FDS=0", "WATCHDOG_PID=1", "WATCHDOG_USEC=1000000", "NOTIFY_SOCKET="+h.path("nobody-listens"))
	s := h.serve(twoPools)
	st, _ := h.status()
	started := s.cmd.Process.Pid
	if st.Watchdog.PID != started || st.Watchdog.State != "armed" || st.Agent.Tier != "tree" {
		t.Errorf("the started process is %d: %+v %+v", started, st.Watchdog, st.Agent)
	}
	if got := children(t, started); !slices.Equal(got, []int{st.Agent.PID}) {
		t.Errorf("children of the watchdog %v, the agent is %d", got, st.Agent.PID)
	}
	if p := procOf(t, st.Agent.PID); p.group != st.Agent.PID {
		t.Errorf("the agent has no group of its own: %+v", p)
	}
	sockets := map[string]int{} // of workers, by inode
	for _, pool := range st.Pools {
		launcher := procOf(t, pool.LauncherPID)
		if launcher.parent != st.Agent.PID || launcher.group != pool.LauncherPID {
			t.Errorf("launcher of %s: %+v", pool.Name, launcher)
		}
		var keepers []int
		for _, w := range pool.Workers {
			keepers = append(keepers, w.KeeperPID)
			checkWorker(t, pool, w)
			for fd, target := range files(t, w.PID) {
				if strings.HasPrefix(target, "socket:") {
					if other, twice := sockets[target]; twice {
						t.Errorf("socket %s is held by worker %d and by %d (fd %d)", target, other, w.PID, fd)
					}
					sockets[target] = w.PID
				}
			}
		}
		slices.Sort(keepers)
		if got := children(t, pool.LauncherPID); !slices.Equal(got, keepers) {
			t.Errorf("children of the launcher %v, keepers %v", got, keepers)
		}
	}
	for _, pool := range st.Pools { // and nobody else holds a worker's end
		for _, pid := range append([]int{pool.LauncherPID, st.Agent.PID, started}, keepersOf(pool)...) {
			for _, target := range files(t, pid) {
				if worker, held := sockets[target]; held {
					t.Errorf("process %d holds socket %s of worker %d", pid, target, worker)
				}
			}
		}
	}
}

func keepersOf(pool agent.PoolStatus) (pids []int) {
	for _, w := range pool.Workers {
		pids = append(pids, w.KeeperPID)
	}
	return pids
}

func checkWorker(t *testing.T, pool agent.PoolStatus, w agent.WorkerStatus) {
	t.Helper()
	keeper, worker := procOf(t, w.KeeperPID), procOf(t, w.PID)
	if keeper.parent != pool.LauncherPID || keeper.group != w.KeeperPID {
		t.Errorf("keeper of %s: %+v", w.ID, keeper)
	}
	if threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", w.KeeperPID)); len(threads) != 1 {
		t.Errorf("keeper of %s has %d threads", w.ID, len(threads))
	}
	if worker.parent != w.KeeperPID || worker.group != w.PID || worker.session != w.PID || w.PGID != w.PID {
		t.Errorf("worker %s: %+v", w.ID, worker)
	}
	if got := children(t, w.KeeperPID); !slices.Equal(got, []int{w.PID}) {
		t.Errorf("children of the keeper of %s: %v", w.ID, got)
	}
	if status := read(t, fmt.Sprintf("/proc/%d/status", w.PID)); !strings.Contains(status, "NoNewPrivs:\t1") {
		t.Errorf("worker %s can gain privileges", w.ID)
	}
	held := files(t, w.PID)
	for fd, want := range []string{"/dev/null", "pipe:", "pipe:", "socket:", "socket:", "/memfd:pitboss-crash-" + w.ID} {
		if !strings.HasPrefix(held[fd], want) {
			t.Errorf("descriptor %d of %s is %q, want %s", fd, w.ID, held[fd], want)
		}
	}
	pipes := map[string]int{} // beyond those six: a pipe of its own, both ends in it
	for fd, target := range held {
		if fd > 5 {
			pipes[target]++
		}
	}
	for target, ends := range pipes {
		if !strings.HasPrefix(target, "pipe:") || ends != 2 {
			t.Errorf("worker %s holds %s: %v", w.ID, target, held)
		}
	}
	for _, pid := range []int{pool.LauncherPID, w.PID} {
		env := "\x00" + read(t, fmt.Sprintf("/proc/%d/environ", pid))
		for _, name := range []string{"NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "WATCHDOG_PID", "WATCHDOG_USEC", "PITBOSS_GUARD_FD", "PITBOSS_LOCK_FD", "PITBOSS_NICE"} {
			if strings.Contains(env, "\x00"+name+"=") {
				t.Errorf("%s is in the environment of process %d", name, pid)
			}
		}
	}
	if w.State != "ready" || w.Tier != "tree" || w.Heartbeat.Verdict != "healthy" {
		t.Errorf("%+v", w)
	}
}

// TestStatusFollowsTheKernel: busy while a call runs, held while the kernel says stopped, and ready again.
func TestStatusFollowsTheKernel(t *testing.T) {
	h := newHost(t)
	s := h.serve(strings.Replace(onePool, "workers: 1", "workers: 1\n    heartbeat: {interval: 1s, timeout: 5s, max_missed: 1}", 1))
	st, _ := s.status()
	worker := st.Pools[0].Workers[0]
	states := func(pid int) string {
		st, _ := s.status()
		for _, w := range st.Pools[0].Workers {
			if w.PID == pid {
				return w.State
			}
		}
		return "gone"
	}
	call := h.start(h.command("pitboss", "call", "nap", "seconds=1", "file="+h.path("begun")))
	h.awaitFile("begun")
	if got := states(worker.PID); got != "busy" {
		t.Errorf("%q while its call runs", got)
	}
	if code := call.exit(); code != 0 {
		t.Errorf("%s", call.log())
	}
	must(t, syscall.Kill(worker.PID, syscall.SIGSTOP))
	h.await("held", func() bool { return states(worker.PID) == "held" })
	if p := procOf(t, worker.PID); p.state != "T" {
		t.Errorf("%+v", p)
	}
	must(t, syscall.Kill(worker.PID, syscall.SIGCONT))
	h.await("one worker that is ready again", func() bool {
		st, ok := s.status()
		return ok && len(st.Pools[0].Workers) == 1 && st.Pools[0].Workers[0].State == "ready"
	})
}

// TestAStoppedWatchdogIsSilent, also while nobody asks it anything; calls go on, and it is armed again when it answers.
func TestAStoppedWatchdogIsSilent(t *testing.T) {
	h := newHost(t)
	s := h.serve(onePool)
	st, _ := s.status()
	must(t, syscall.Kill(st.Watchdog.PID, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(st.Watchdog.PID, syscall.SIGCONT) })
	h.await("silent", func() bool { st, _ := s.status(); return st.Watchdog.State == "silent" })
	h.pitboss("call", "add", "a=1", "b=2").want(t, 0)
	must(t, syscall.Kill(st.Watchdog.PID, syscall.SIGCONT))
	h.await("armed", func() bool { st, _ := s.status(); return st.Watchdog.State == "armed" })
	if after, _ := s.status(); after.Agent.RunID != st.Agent.RunID {
		t.Error("the agent was restarted")
	}
}
