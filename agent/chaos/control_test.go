package chaos

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// pool is what a program without pitboss does: it forks a worker and waits for it. The worker is the matrix's own.
const pool = `
import os, sys
sys.path[:0] = sys.argv[1:3]
if os.fork() == 0:
    import victim
    victim.Victim().setup()
os.wait()
`

// TestUnsupervisedControl is the instrument's proof: the very same worker without pitboss survives the SIGKILL of its parent
// with all that it started, and each witness sees exactly those whom it can see.
func TestUnsupervisedControl(t *testing.T) {
	r := &run{t: t, tree: newTree(t), waited: make(chan struct{})}
	r.makeDir()
	r.write("victim.py", victim)
	r.write("slow", "")
	library, err := filepath.Abs("../../python/src")
	must(t, err)
	r.cmd = exec.Command("python3", "-c", pool, library, r.dir)
	r.cmd.Env = append(os.Environ(), TokenEnv+"="+r.tree.Token, "CHAOS_DIR="+r.dir)
	if r.tree.Cgroup != "" {
		dir, err := os.Open(r.tree.Cgroup)
		must(t, err)
		defer dir.Close()
		r.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	}
	must(t, r.cmd.Start())
	r.watchdog = r.pin(r.cmd.Process.Pid)
	go func() { _ = r.cmd.Wait(); close(r.waited) }()
	t.Cleanup(r.clear)
	r.until("worker", func() bool { return len(r.noted("ready")) == 1 })

	r.watchdog.kill(syscall.SIGKILL)
	<-r.waited
	const leaked = 1 + escapees
	// Until its exec the double-forked escapee looks like the worker.
	unmarked := func(s Sighting) bool { return s.File && !s.Env && !s.Argv }
	var left []Sighting
	r.until("leak of the worker and its escapees", func() bool {
		left = r.tree.Alive()
		return len(left) == leaked && count(left, unmarked) == 1
	})
	if looked, _ := r.tree.WaitEmpty(100 * time.Millisecond); len(looked) != leaked {
		t.Errorf("the wait for emptiness saw %v of %v", looked, left)
	}
	for _, w := range []struct {
		name string
		saw  func(Sighting) bool
		want int
	}{
		{"environment", func(s Sighting) bool { return s.Env }, 2},    // worker, the one in its group
		{"arguments", func(s Sighting) bool { return s.Argv }, 3},     // all but the double-forked one
		{"open files", func(s Sighting) bool { return s.File }, 2},    // worker, the double-forked one
		{"cgroup", func(s Sighting) bool { return s.Cgroup }, leaked}, // everybody
	} {
		if w.name == "cgroup" && r.tree.Cgroup == "" {
			t.Log("no cgroup of v2 can be made here: three witnesses")
			continue
		}
		if n := count(left, w.saw); n != w.want {
			t.Errorf("%s: %d of the leaked processes, want %d: %+v", w.name, n, w.want, left)
		}
	}
}

func count(all []Sighting, saw func(Sighting) bool) int {
	n := 0
	for _, s := range all {
		if saw(s) {
			n++
		}
	}
	return n
}
