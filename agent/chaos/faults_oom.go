package chaos

import (
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// oomScenarios let the kernel's out-of-memory killer take one part each, for real, in a cgroup of the round.
func oomScenarios() []Scenario {
	var all []Scenario
	for _, s := range []Scenario{
		{Name: "out-of-memory-worker", Expect: "the worker is replaced, its siblings answer; then the agent is killed: an empty tree", Rounds: 1, Run: oomWorker},
		{Name: "out-of-memory-agent", Expect: "an empty tree and a certificate", Run: oomAgent},
		{Name: "out-of-memory-watchdog", Expect: "the agent drains and ends by itself", Run: oomWatchdog},
	} {
		s.What = "the kernel's out-of-memory killer takes the " + strings.TrimPrefix(s.Name, "out-of-memory-")
		s.Long, s.Cannot = 20, needsController("memory")
		all = append(all, s)
	}
	return all
}

// hog takes memory, a MiB at a time, until the kernel has killed the process that it is told to wait for. It cannot be killed for
// want of memory itself.
const hog = `
import os, sys
open("/proc/self/oom_score_adj", "w").write("-1000")
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
pidfd, taken = int(sys.argv[2]), []
import select
waits = select.poll()
waits.register(pidfd, select.POLLIN)
while not waits.poll(5):
    taken.append(bytearray(1 << 20))
`

// startStarved starts victims in a memory cgroup.
func startStarved(round *Round) *victims {
	r := startVictims(round, false, func(o *Options) { inController("memory")(round, o) })
	r.descend()
	r.enter("idle")
	return r
}

// starve makes the kernel's out-of-memory killer choose p.
func (r *victims) starve(p *Process) {
	r.Must(os.WriteFile("/proc/"+itoa(p.PID)+"/oom_score_adj", []byte("1000"), 0))
	const room = 16 << 20
	r.limit("memory", "memory.limit_in_bytes", itoa(r.usage("memory", "memory.usage_in_bytes")+room))
	fd, err := unix.Dup(p.fd)
	r.Must(err)
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	defer func() { _ = pidfd.Close() }()
	c := exec.Command(r.host.Python, "-c", hog, controllerDir(r.Round, "memory"), "3")
	c.ExtraFiles, c.SysProcAttr = []*os.File{pidfd}, &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	r.Must(c.Start())
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	if !p.Gone(patience) {
		_ = c.Process.Kill()
		<-ended
		r.Fatalf("the kernel did not kill process %d for want of memory", p.PID)
	}
	r.Must(<-ended)
}

func oomWorker(round *Round) {
	r := startStarved(round)
	r.starve(r.workers[r.aKeeperOfA(r.random)])
	// What the hog has taken until it noticed may have cost another one: that is the kernel's choice.
	taken := func() (n int) {
		for _, w := range r.workers {
			if w.Gone(0) {
				n++
			}
		}
		return n
	}
	r.Until("replacement", func() bool { return len(r.noted("ready")) == workers+taken() })
	if n := taken(); n > 1 {
		r.Note("the kernel took %d workers", n)
	}
	if !strings.Contains(r.agent.Log(), "out-of-memory killer") {
		r.Errorf("nobody tells of the out-of-memory killer%s", r.logs())
	}
	r.livingAnswer(r.agent.Client())
	r.agent.Process.Kill(unix.SIGKILL)
	r.Empty(limit)
}

func oomAgent(round *Round) {
	r := startStarved(round)
	r.starve(r.agent.Process)
	r.Empty(limit)
	r.checkEnd(r.agent.ExitCode())
}

func oomWatchdog(round *Round) {
	r := startStarved(round)
	r.starve(r.agent.Watchdog)
	r.Empty(drain + limit)
}
