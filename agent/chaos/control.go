package chaos

import (
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/python"
)

// unsupervised is what a program without pitboss does: it forks a worker and waits for it. The worker is the matrix's own, but
// that it ends with its standard input, in case that this process is killed meanwhile; the escapees end after two minutes.
const unsupervised = `
import os, sys, threading
sys.path[:0] = sys.argv[1:3]
if os.fork() == 0:
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    import victim
    victim.Victim().setup()
os.wait()
`

// leakingControl is the instrument's proof, and comes first: who does not see what leaks here may not say that nothing leaks there.
func leakingControl() Scenario {
	return Scenario{Name: "control-that-leaks", What: "the matrix's own worker without pitboss: SIGKILL of the parent that forked it",
		Expect: "worker and escapees survive, and each witness sees exactly those whom it can see", Rounds: 1, Run: leak}
}

func leak(r *Round) {
	r.Write("victim.py", victim)
	r.Write("slow", "")
	library, err := fs.Sub(python.Library, "src")
	r.Must(err)
	r.Must(os.CopyFS(r.File("library"), library))
	cmd := exec.Command(r.host.Python, "-c", unsupervised, r.File("library"), r.dir)
	cmd.Env = append(os.Environ(), TokenEnv+"="+r.tree.Token, "CHAOS_DIR="+r.dir)
	if r.tree.Cgroup != "" {
		dir, err := os.Open(r.tree.Cgroup)
		r.Must(err)
		defer func() { _ = dir.Close() }()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	}
	theirs, life, err := os.Pipe()
	r.Must(err)
	r.Cleanup(func() { _ = life.Close() })
	cmd.Stdin = theirs
	err = cmd.Start()
	_ = theirs.Close()
	r.Must(err)
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	r.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	r.Until("worker", func() bool { return len(r.noted("ready")) == 1 })

	r.Must(cmd.Process.Kill())
	<-ended
	const leaked = 1 + escapees
	// Until its exec the double-forked escapee looks like the worker.
	unmarked := func(s Sighting) bool { return s.File && !s.Env && !s.Argv }
	var left []Sighting
	r.Until("leak of the worker and its escapees", func() bool {
		left = r.tree.Alive()
		return len(left) == leaked && count(left, unmarked) == 1
	})
	if looked, _ := r.tree.WaitEmpty(100 * time.Millisecond); len(looked) != leaked {
		r.Errorf("the wait for emptiness saw %v of %v", looked, left)
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
			r.Note("no cgroup of v2 can be made here: three witnesses")
			continue
		}
		if n := count(left, w.saw); n != w.want {
			r.Errorf("%s: %d of the leaked processes, want %d: %+v", w.name, n, w.want, left)
		}
	}
	r.outcome.Survivors = len(left) // that is what it is for: only a failure fails it
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
