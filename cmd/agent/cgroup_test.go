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
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"golang.org/x/sys/unix"
)

// delegated makes a cgroup v2 as a service manager gives one, and starts commands of this host in it. When the test ends no process
// may be in it.
func (h *host) delegated() (dir string) {
	h.t.Helper()
	mount := "/sys/fs/cgroup"
	var fs unix.Statfs_t
	if err := unix.Statfs(mount, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		mount += "/unified"
	}
	dir = filepath.Join(mount, "pitboss-"+h.token)
	if err := os.Mkdir(dir, 0o755); err != nil {
		h.t.Fatalf("this test needs root and a cgroup v2 hierarchy at %s: %v", mount, err)
	}
	h.env = append(h.env, "PITBOSS_CGROUP=delegated")
	h.t.Cleanup(func() {
		for dir, pids := range h.cgroupPIDs(dir) {
			h.t.Errorf("processes %v are left in %s", pids, dir)
		}
		h.await("rid of the cgroup", func() bool {
			_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0) // only after a failure is there anybody
			for _, below := range slices.Backward(cgroupDirs(dir)) {
				_ = os.Remove(below)
			}
			_, err := os.Stat(dir)
			return os.IsNotExist(err)
		})
	})
	return dir
}

func cgroupDirs(dir string) (dirs []string) {
	_ = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	return dirs
}

// cgroupPIDs maps every cgroup at and below dir that holds processes to them.
func (h *host) cgroupPIDs(dir string) map[string][]int {
	h.t.Helper()
	found := map[string][]int{}
	for _, d := range cgroupDirs(dir) {
		text, _ := os.ReadFile(filepath.Join(d, "cgroup.procs"))
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			must(h.t, err)
			found[d] = append(found[d], pid)
		}
	}
	return found
}

// startIn starts an agent with this configuration in a cgroup.
func (h *host) startIn(dir, config string) *service {
	h.t.Helper()
	must(h.t, os.WriteFile(h.path("pitboss.yaml"), []byte(config), 0o644))
	c := h.command("pitboss", "agent", "--config", "pitboss.yaml")
	d, err := os.Open(dir)
	must(h.t, err)
	defer d.Close()
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(d.Fd())}
	return h.start(c)
}

func oomScore(t *testing.T, pid int) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(read(t, fmt.Sprintf("/proc/%d/oom_score_adj", pid))))
	must(t, err)
	return n
}

const cgroupPool = `
watchdog: {require: cgroup}
pools:
  - {name: default, adapter: escape.py, workers: 2, guard: cgroup, timeouts: {kill: 300ms}}
`

// TestTheTreeOfACgroup: who is where, who is killed first for want of memory, and what `status` says of it.
func TestTheTreeOfACgroup(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("escape.py"), []byte(escape), 0o644))
	dir := h.delegated()
	s := h.startIn(dir, cgroupPool)
	s.awaitReady()
	st, _ := h.status()
	pool := st.Pools[0]
	if st.Agent.Tier != "cgroup" || st.Agent.TierReason != "" {
		t.Errorf("tier %q: %s", st.Agent.Tier, st.Agent.TierReason)
	}
	want := map[string][]int{filepath.Join(dir, "supervisor"): append([]int{st.Watchdog.PID, st.Agent.PID, pool.LauncherPID}, keepersOf(pool)...)}
	for _, w := range pool.Workers {
		want[filepath.Join(dir, "workers", "default", w.ID)] = []int{w.PID}
		if w.Tier != "cgroup" {
			t.Errorf("%s has tier %q", w.ID, w.Tier)
		}
		if a, b, c := oomScore(t, st.Watchdog.PID), oomScore(t, w.KeeperPID), oomScore(t, w.PID); a >= b || b >= c {
			t.Errorf("the kernel would end the watchdog at %d, a keeper at %d, a worker at %d", a, b, c)
		}
		if env := read(t, fmt.Sprintf("/proc/%d/environ", w.PID)); strings.Contains(env, "PITBOSS_CGROUP") {
			t.Errorf("%s is told of the cgroup", w.ID)
		}
	}
	h.await("tried the limits", func() bool {
		st, _ = h.status()
		return !slices.ContainsFunc(st.Agent.Limits, func(l agent.LimitStatus) bool { return l.State == "trying" })
	})
	got := h.cgroupPIDs(dir)
	for _, pids := range []map[string][]int{want, got} {
		for _, list := range pids {
			slices.Sort(list)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("cgroups\n%v\nwant\n%v", got, want)
	}
	if !strings.Contains(h.pitboss("status").stdout, "tier cgroup") {
		t.Error("`status` does not say so")
	}
}

// TestACgroupLosesNobody: what a dead worker has left goes with it, at a restart its cgroup is gone, and after the death of the agent
// or a stop nothing is in any cgroup.
func TestACgroupLosesNobody(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("escape.py"), []byte(escape), 0o644))
	dir := h.delegated()
	s := h.startIn(dir, cgroupPool)
	s.awaitReady()
	daemon := 0
	_, err := fmt.Sscan(h.pitboss("call", "escape").stdout, &daemon)
	must(t, err)
	where := func(pid int) string { return read(t, fmt.Sprintf("/proc/%d/cgroup", pid)) }
	if !strings.Contains(where(daemon), "/workers/default/default-") {
		t.Errorf("the daemon is in %s", where(daemon))
	}
	h.pitboss("restart", "--pool", "default").want(t, 0)
	h.await("the daemon ended", func() bool { return !slices.Contains(h.alive(), daemon) })
	st, _ := h.status()
	var ids []string
	for _, w := range st.Pools[0].Workers {
		ids = append(ids, w.ID)
	}
	h.await("only the new workers' cgroups", func() bool {
		entries, _ := os.ReadDir(filepath.Join(dir, "workers", "default"))
		var dirs []string
		for _, e := range entries {
			if e.IsDir() {
				dirs = append(dirs, e.Name())
			}
		}
		return slices.Equal(dirs, ids)
	})
	if e := h.pitboss("events", "--json", "--prefix", "cleanup."); !strings.Contains(e.stdout, `"ECHILD+populated 0"`) || !strings.Contains(e.stdout, `"tier":"cgroup"`) {
		t.Errorf("the proof of the clean-up: %s", e.stdout)
	}
	h.pitboss("call", "escape").want(t, 0)
	must(t, syscall.Kill(st.Agent.PID, syscall.SIGKILL))
	if code := s.exit(); code != 70 {
		t.Errorf("exit code %d", code)
	}
	if death := read(t, h.path("pitboss/agent/last-death.json")); !strings.Contains(death, `"tier":"cgroup","proof":"ECHILD+populated 0"`) {
		t.Errorf("certificate %s", death)
	}
	if left := h.cgroupPIDs(dir); len(left) > 0 {
		t.Errorf("left after the agent's death: %v", left)
	}
}

// TestTheNextAgentClearsItsCgroup: of processes that carry no mark and are nobody's children, the cgroup still knows whose they were.
func TestTheNextAgentClearsItsCgroup(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("escape.py"), []byte(escape), 0o644))
	dir := h.delegated()
	left := filepath.Join(dir, "workers", "default", "default-0.1")
	must(t, os.MkdirAll(left, 0o755))
	d, err := os.Open(left)
	must(t, err)
	defer d.Close()
	c := h.command("sleep", "600")
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(d.Fd())}
	must(t, c.Start())
	ended := make(chan struct{})
	go func() { _ = c.Wait(); close(ended) }()
	s := h.startIn(dir, cgroupPool)
	s.awaitReady()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("it lives")
		_ = c.Process.Kill()
	}
	if st, _ := h.status(); st.Swept == nil || st.Swept.Killed != 1 {
		t.Errorf("swept: %+v", st.Swept)
	}
}

// TestWithoutADelegatedCgroup: a demand for one is refused with the reason, and no demand is served in tier tree.
func TestWithoutADelegatedCgroup(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("escape.py"), []byte(escape), 0o644))
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(cgroupPool), 0o644))
	h.pitboss("agent", "--config", "pitboss.yaml").want(t, exitConfig, `watchdog.require says "cgroup", and the tier is tree`, "no cgroup was delegated", "Delegate=")
	h.env = append(h.env, "PITBOSS_CGROUP=yes")
	h.pitboss("agent", "--config", "pitboss.yaml").want(t, exitConfig, `PITBOSS_CGROUP is "yes"; the only value is delegated`)

	s := h.serve("pools: [{name: default, adapter: escape.py, workers: 1, limits: {memory: 1GiB, pids: 100}, timeouts: {kill: 300ms}}]\n")
	h.await("told of both limits", func() bool {
		return strings.Count(h.pitboss("events", "--prefix", "pool.limit_not_enforced").stdout, "pool.limit_not_enforced") == 2
	})
	st, _ := s.status()
	if st.Agent.Tier != "tree" || !strings.Contains(st.Agent.TierReason, "PITBOSS_CGROUP") {
		t.Errorf("tier %q: %s", st.Agent.Tier, st.Agent.TierReason)
	}
	if void := st.Pools[0].LimitsVoid; len(void) != 2 || !strings.HasPrefix(void[0], "limits.memory: ") || !strings.HasPrefix(void[1], "limits.pids: ") {
		t.Errorf("void: %q", void)
	}
	d := h.doctor("--config", "pitboss.yaml")
	d.want(t, "limits", gradeWarn, "pool default has limits that bind nobody: limits.memory: ")
	if text := h.pitboss("status").stdout; !strings.Contains(text, "not enforced: limits.memory: ") {
		t.Errorf("status:\n%s", text)
	}
}

// TestAnOuterWatchdogSharesTheCgroup: no process is left where it would keep controllers from being passed on.
func TestAnOuterWatchdogSharesTheCgroup(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("escape.py"), []byte(escape), 0o644))
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(cgroupPool), 0o644))
	dir := h.delegated()
	d, err := os.Open(dir)
	must(t, err)
	defer d.Close()
	// The shell's child makes the started process an outer one; it leaves the cgroup, as a side-car of another service would not be in it.
	c := h.command("sh", "-c", `sleep 600 & echo $! > "$0/../cgroup.procs"; echo $! > stranger; exec pitboss agent --config pitboss.yaml`, dir)
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(d.Fd())}
	s := h.start(c)
	s.awaitReady()
	if direct := h.cgroupPIDs(dir)[dir]; len(direct) > 0 {
		t.Errorf("processes %v are in the delegated cgroup itself", direct)
	}
	if st, _ := h.status(); st.Agent.Tier != "cgroup" || !slices.Contains(h.cgroupPIDs(dir)[filepath.Join(dir, "supervisor")], s.cmd.Process.Pid) {
		t.Errorf("tier %q, supervisor %v, started %d", st.Agent.Tier, h.cgroupPIDs(dir), s.cmd.Process.Pid)
	}
	must(t, s.cmd.Process.Signal(syscall.SIGTERM))
	s.exit()
	stranger, err := strconv.Atoi(strings.TrimSpace(read(t, h.path("stranger"))))
	must(t, err)
	must(t, syscall.Kill(stranger, syscall.SIGKILL))
}
