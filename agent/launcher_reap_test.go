package agent

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// A process that only waits for its turn is starved; one that sleeps, is stopped, or runs all the time is not.
func TestOnlyAStarvedLauncherIsExcused(t *testing.T) {
	start := func(words ...string) int {
		c := exec.Command(words[0], words[1:]...)
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		must(t, c.Start())
		t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
		return c.Process.Pid
	}
	state := func(pid int) byte {
		s, _, _ := readStat(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		return s
	}
	const spin = "while :; do :; done"
	cores := start("taskset", "-c", "0", "sh", "-c", spin)
	for range 20 { // on the same core, so that one of them mostly waits
		start("taskset", "-c", "0", "sh", "-c", spin)
	}
	asleep, stopped := start("sleep", "600"), start("sh", "-c", spin)
	must(t, syscall.Kill(stopped, syscall.SIGSTOP))
	await(t, 30*time.Second, "sleeping and stopped", func() bool { return state(asleep) == 'S' && state(stopped) == 'T' })
	for name, c := range map[string]struct {
		pid  int
		want bool
	}{"starved": {cores, true}, "asleep": {asleep, false}, "stopped": {stopped, false}} {
		look := lookAtLauncher(c.pid)
		<-time.After(500 * time.Millisecond) // the span that is judged
		if got := look.starved(); got != c.want {
			t.Errorf("%s: %v (cpu %s, delay %s of %s)", name, got, lookAtLauncher(c.pid).cpu-look.cpu, lookAtLauncher(c.pid).delay-look.delay, time.Since(look.at))
		}
	}
	if look := (launcherLook{pid: 1 << 30}); look.starved() {
		t.Error("a process that is gone is starved")
	}
}
