//go:build vm

// Package guest holds the tests that run inside the emulated machine, as a delegated service of an unprivileged user: what the host's kernel cannot
// show there is shown here. `make test-vm` compiles them and has ../run start them.
package guest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const mib = 1 << 20

// TestMain is also the child that the tests start: it takes as much memory as $TAKE_MIB says.
func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv("TAKE_MIB")); err == nil {
		memory := make([]byte, n*mib)
		for i := 0; i < len(memory); i += os.Getpagesize() {
			memory[i] = 1
		}
		fmt.Println("took it")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// unit is the cgroup of this service; the tests are below it, out of the way of the controllers, as a service manager's delegate has to be.
func unit(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	path, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "0::")
	if !ok {
		t.Fatalf("not a machine of cgroup v2 alone: %q", text)
	}
	dir := filepath.Join("/sys/fs/cgroup", strings.TrimSuffix(path, "/supervisor"))
	if !strings.HasSuffix(path, "/supervisor") {
		write(t, filepath.Join(makeGroup(t, dir, "supervisor"), "cgroup.procs"), "0")
		write(t, filepath.Join(dir, "cgroup.subtree_control"), "+cpu +memory +pids")
	}
	return dir
}

func makeGroup(t *testing.T, parent, name string) string {
	t.Helper()
	dir := filepath.Join(parent, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// fields reads a flat keyed file such as memory.events.
func fields(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			all[key] = value
		}
	}
	return all
}

func words(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// start starts this binary again, born in the cgroup.
func start(t *testing.T, group string, env ...string) *exec.Cmd {
	t.Helper()
	dir, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), env...)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheMachineHasTheControllersOfCgroupV2(t *testing.T) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs("/sys/fs/cgroup", &fs); err != nil || fs.Type != 0x63677270 { // CGROUP2_SUPER_MAGIC, statfs(2)
		t.Fatalf("/sys/fs/cgroup is of type %#x, %v", fs.Type, err)
	}
	have := words(t, "/sys/fs/cgroup/cgroup.controllers")
	for _, c := range []string{"cpu", "memory", "pids"} {
		if !slices.Contains(have, c) {
			t.Errorf("no controller %q in %q", c, have)
		}
	}
}

func TestADelegatedUnitGetsTheControllers(t *testing.T) {
	if os.Getuid() == 0 {
		t.Fatal("this has to run as a user of no privilege: root may write everywhere")
	}
	have := words(t, filepath.Join(unit(t), "cgroup.subtree_control"))
	for _, c := range []string{"cpu", "memory", "pids"} {
		if !slices.Contains(have, c) {
			t.Errorf("no controller %q in %q", c, have)
		}
	}
	// The control: what is not delegated refuses.
	if err := os.Mkdir("/sys/fs/cgroup/system.slice/mine", 0o755); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a cgroup outside of the unit: %v", err)
	}
}

func TestMemoryBeyondTheLimitIsKilledAndCounted(t *testing.T) {
	group := makeGroup(t, unit(t), "memory")
	write(t, filepath.Join(group, "memory.max"), strconv.Itoa(64*mib))
	events := filepath.Join(group, "memory.events")

	if err := start(t, group, "TAKE_MIB=8").Wait(); err != nil { // the control: within the limit all is well
		t.Fatalf("8 of 64 MiB: %v", err)
	}
	if got := fields(t, events)["oom_kill"]; got != "0" {
		t.Fatalf("memory.events counts %s kills before there was one", got)
	}
	err := start(t, group, "TAKE_MIB=256").Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("256 of 64 MiB: %v", err)
	}
	if got := fields(t, events); got["oom_kill"] != "1" || got["max"] == "0" {
		t.Errorf("memory.events: %v", got)
	}
	if got := fields(t, filepath.Join(unit(t), "supervisor", "memory.events"))["oom_kill"]; got != "0" {
		t.Errorf("%s kills in the cgroup beside it", got)
	}
}

func TestAProcessTooManyIsRefused(t *testing.T) {
	group := makeGroup(t, unit(t), "pids")
	write(t, filepath.Join(group, "pids.max"), "0")
	dir, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	c := exec.Command("/bin/true")
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := c.Run(); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("one of none allowed: %v", err)
	}
	if got := fields(t, filepath.Join(group, "pids.events"))["max"]; got != "1" {
		t.Errorf("pids.events counts %s refusals", got)
	}
	write(t, filepath.Join(group, "pids.max"), "64") // the control
	c = exec.Command("/bin/true")
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := c.Run(); err != nil {
		t.Errorf("one of 64 allowed: %v", err)
	}
}

func TestCgroupKillEmptiesATree(t *testing.T) {
	group := makeGroup(t, unit(t), "kill")
	dir, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	c := exec.Command("/bin/sh", "-c", "setsid sleep 1000 & echo ready; exec sleep 1000") // one that left the process group
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if n := len(words(t, filepath.Join(group, "cgroup.procs"))); n != 2 {
		t.Fatalf("%d processes before the kill", n)
	}
	write(t, filepath.Join(group, "cgroup.kill"), "1")
	_ = c.Wait()
	for fields(t, filepath.Join(group, "cgroup.events"))["populated"] != "0" { // -test.timeout bounds it
	}
	if err := os.Remove(group); err != nil {
		t.Error(err)
	}
}
