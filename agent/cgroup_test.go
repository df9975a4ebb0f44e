package agent

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// delegatedCgroup is an empty cgroup v2 that a test may divide; nothing of it is left when the test ends.
func delegatedCgroup(t *testing.T) string {
	t.Helper()
	mount := cgroupMount
	var fs unix.Statfs_t
	if err := unix.Statfs(mount, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		mount = filepath.Join(cgroupMount, "unified")
	}
	dir := filepath.Join(mount, fmt.Sprintf("pitboss-test-%d-%d", os.Getpid(), time.Now().UnixNano()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatalf("this test needs root and a cgroup v2 hierarchy at %s: %v", mount, err)
	}
	t.Cleanup(func() {
		g := cgroup{dir: dir}
		if left := g.pids(); len(left) > 0 {
			t.Errorf("processes %v are left in the cgroup", left)
		}
		if err := g.close(10 * time.Second); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// startIn starts a command in a cgroup. Its end is awaited when the test ends.
func startIn(t *testing.T, dir string, argv ...string) *exec.Cmd {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c := exec.Command(argv[0], argv[1:]...)
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(d.Fd())}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	return c
}

func TestACgroupEndsWhatForksWithoutEnd(t *testing.T) {
	tree, _, _, err := openCgroups(delegatedCgroup(t), "run", cgroupPatience)
	if err != nil {
		t.Fatal(err)
	}
	files, err := tree.pool("default")
	if err != nil {
		t.Fatal(err)
	}
	closeFiles(files)
	c := exec.Command("sleep", "600")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	g, err := tree.enter("default", "default-0.1", &LimitsConfig{}, c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.pids(); !slices.Equal(got, []int{c.Process.Pid}) {
		t.Errorf("it holds %v, want %d", got, c.Process.Pid)
	}
	bomb := startIn(t, g.dir, "sh", "-c", `f() { setsid sh -c 'exec sleep 600' & sleep 0.01; f & f; }; f`)
	nested := filepath.Join(g.dir, "of-a-tool")
	if err := os.Mkdir(nested, 0o755); err != nil {
		t.Fatal(err)
	}
	startIn(t, nested, "sleep", "600")
	await(t, 10*time.Second, "a dozen processes", func() bool { return len(g.pids()) > 12 })
	if err := g.close(10 * time.Second); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(g.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cgroup is still there: %v", err)
	}
	for _, ended := range []*exec.Cmd{c, bomb} {
		if err := ended.Wait(); err == nil || ended.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Errorf("ended by %v", ended.ProcessState)
		}
	}
	if err := g.close(time.Second); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	tree.dropPool("default")
	if left, _ := os.ReadDir(tree.dir); slices.ContainsFunc(left, os.DirEntry.IsDir) {
		t.Error("the pool's cgroup is left")
	}
}

// Without cgroup.kill (before Linux 5.14) the processes are killed one by one.
func TestACgroupEndsWithoutItsOwnKill(t *testing.T) {
	dir := filepath.Join(delegatedCgroup(t), "g")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	startIn(t, dir, "sleep", "600")
	g := cgroup{dir: dir}
	if g.kill() {
		t.Error("it was killed by a file that counts as missing")
	}
	for _, pid := range g.pids() {
		_ = unix.Kill(pid, unix.SIGSTOP)
	}
	if err := g.close(10 * time.Second); err != nil {
		t.Error(err)
	}
}

func TestOpenCgroupsClearsWhatAnEarlierAgentHasLeft(t *testing.T) {
	dir := delegatedCgroup(t)
	left := filepath.Join(dir, "workers", "default", "default-0.1")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	c := startIn(t, left, "sleep", "600")
	beside := startIn(t, dir, "sleep", "600") // not in workers/: not ours to end
	tree, killed, stuck, err := openCgroups(dir, "run", cgroupPatience)
	if err != nil || killed != 1 || len(stuck) != 0 || tree.dir != filepath.Join(dir, "workers") {
		t.Fatalf("%d %v %v %+v", killed, stuck, err, tree)
	}
	_ = c.Wait()
	if state := c.ProcessState.Sys().(syscall.WaitStatus); state.Signal() != syscall.SIGKILL {
		t.Errorf("ended by %v", c.ProcessState)
	}
	if err := beside.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("a process beside workers/ was ended: %v", err)
	}
	_ = beside.Process.Kill()
	_ = beside.Wait()
	for _, name := range controllers {
		given, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		if err != nil {
			t.Fatal(err)
		}
		if has := slices.Contains(strings.Fields(string(given)), name); has != (tree.missing[name] == "") {
			t.Errorf("%s: delegated %v, missing %q", name, has, tree.missing[name])
		}
	}
}

// What cannot be ended keeps its cgroup, and the next agent takes another; the one after that finds both. No time at all stands for the
// uninterruptible sleep of a process.
func TestOpenCgroupsPassesByWhatCannotBeEnded(t *testing.T) {
	dir := delegatedCgroup(t)
	held := filepath.Join(dir, "workers", "default", "default-0.1")
	if err := os.MkdirAll(held, 0o755); err != nil {
		t.Fatal(err)
	}
	c := startIn(t, held, "sleep", "600")
	tree, _, _, err := openCgroups(dir, "second", 0)
	if err != nil || tree.dir != filepath.Join(dir, "workers-second") {
		t.Fatalf("%+v %v", tree, err)
	}
	files, err := tree.pool("default")
	if err != nil {
		t.Fatal(err)
	}
	closeFiles(files)
	_ = c.Wait()
	if tree, _, left, err := openCgroups(dir, "third", cgroupPatience); err != nil || len(left) != 0 || tree.dir != filepath.Join(dir, "workers") {
		t.Errorf("%+v %v %v", tree, left, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "workers-second")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the second one's cgroup is left: %v", err)
	}
}

func TestNoCgroupPromisesNothing(t *testing.T) {
	var tree *cgroups
	files, err := tree.pool("a")
	g, err2 := tree.enter("a", "a-0.1", &LimitsConfig{}, os.Getpid())
	if files != nil || err != nil || g != nil || err2 != nil || g.kill() || g.oomKills() != 0 || g.close(time.Second) != nil {
		t.Error("a missing cgroup does something")
	}
	tree.dropPool("a")
	if _, _, _, err := openCgroups(t.TempDir(), "run", cgroupPatience); err == nil {
		t.Error("a directory that is no cgroup is taken")
	}
}

func TestLimitSettings(t *testing.T) {
	for _, c := range []struct {
		limits LimitsConfig
		want   string
	}{
		{LimitsConfig{}, ""},
		{LimitsConfig{Memory: 64 << 20}, "memory.max=67108864 memory.swap.max=0"},
		{LimitsConfig{CPU: 0.5}, "cpu.max=50000 100000"},
		{LimitsConfig{CPU: 2}, "cpu.max=200000 100000"},
		{LimitsConfig{CPU: 0.01}, "cpu.max=1000 100000"},
		{LimitsConfig{PIDs: 9}, "pids.max=9"},
	} {
		var got []string
		for _, s := range c.limits.settings() {
			got = append(got, s.file+"="+s.value)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %q, want %q", c.limits, got, c.want)
		}
	}
}

func TestDemandedTiers(t *testing.T) {
	for _, c := range []struct {
		have           killTier
		require, guard string
		refused        bool
	}{
		{tierGroup, "", "group", false}, {tierGroup, "", "tree", true}, {tierGroup, "tree", "group", true}, {tierGroup, "", "cgroup", true}, {tierGroup, "cgroup", "group", true},
		{tierTree, "", "group", false}, {tierTree, "tree", "tree", false}, {tierTree, "", "cgroup", true}, {tierTree, "cgroup", "group", true},
		{tierCgroup, "cgroup", "cgroup", false}, {tierCgroup, "tree", "tree", false}, {tierCgroup, "", "group", false},
	} {
		a := &Agent{options: Options{GuardFD: -1}, cgroupReason: "because"}
		if c.have > tierGroup {
			a.options.GuardFD = 3
		}
		if c.have == tierCgroup {
			a.cgroups = &cgroups{killable: true}
		}
		err := a.checkTiers(Config{Watchdog: WatchdogConfig{Require: c.require}, Pools: []PoolConfig{{Name: "a", Guard: c.guard}}})
		if (err != nil) != c.refused {
			t.Errorf("%+v: %v", c, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "because") || !strings.Contains(err.Error(), c.have.String())) {
			t.Errorf("%+v does not say why: %v", c, err)
		}
	}
}
