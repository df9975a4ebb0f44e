package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	// probeCommand is the first argument of a process that tries a limit; it is this binary.
	probeCommand = "try-limit"
	// probePatience is how long a try may take before its limit counts as void.
	probePatience = 5 * time.Second
	probeRoom     = 8 << 20  // bytes that the process may take beyond what it has
	probeGreed    = 64 << 20 // bytes that it takes
	probeDone     = 3        // exit code of that process when nothing has stopped it
)

// tryLimit starts this binary in a cgroup of its own, sets the limit, lets the process break it, and looks what became of it.
func (a *Agent) tryLimit(name string) error {
	g := &cgroup{dir: filepath.Join(a.cgroups.dir, ".try-"+name), killable: a.cgroups.killable}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return err
	}
	defer func() { _ = g.close(cgroupPatience) }()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	process, err := a.children.start(self, []string{"pitboss", probeCommand, name}, []string{"GOMAXPROCS=1"}, "/", []*os.File{theirs, null, null}, nil)
	_ = theirs.Close()
	if err != nil {
		_ = ours.Close()
		return err
	}
	verdict := g.watchProbe(name, process, ours)
	_ = process.signal(syscall.SIGKILL)
	_ = process.wait()
	status, err := a.children.reap(process)
	process.close()
	if err != nil {
		return err
	}
	return verdict(status)
}

// watchProbe moves the process in, sets the limit and lets it go. The verdict is asked with its exit status.
func (g *cgroup) watchProbe(name string, p *pidfd, start *os.File) (verdict func(status int) error) {
	defer start.Close()
	failed := func(err error) func(int) error {
		return func(int) error { return fmt.Errorf("cannot try the limit: %w", err) }
	}
	if err := g.write("cgroup.procs", strconv.Itoa(p.pid)); err != nil {
		return failed(err)
	}
	// The process has stopped at its standard input, so what it has now is what it had when the limit came.
	if _, err := start.Write([]byte{'?'}); err != nil {
		return failed(err)
	}
	if err := g.limitProbe(name); err != nil {
		return failed(err)
	}
	if _, err := start.Write([]byte{'!'}); err != nil {
		return failed(err)
	}
	deadline := time.Now().Add(probePatience)
	if name == "cpu" {
		return g.throttled(deadline)
	}
	gone := make(chan struct{})
	go func() { _ = p.wait(); close(gone) }() // ends with the process, which the caller kills
	select {
	case <-gone:
	case <-time.After(time.Until(deadline)):
	}
	stopped := g.oomKills()
	if name == "pids" {
		stopped = readField(filepath.Join(g.dir, "pids.events"), "max ") // forks that were refused
	}
	return func(status int) error {
		if stopped == 0 {
			return fmt.Errorf("a process that went beyond it was not stopped (it %s)", statusText(status))
		}
		return nil
	}
}

// limitProbe sets the limit a little above what the process has.
func (g *cgroup) limitProbe(name string) error {
	switch name {
	case "memory":
		if err := g.write("memory.swap.max", "0"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return g.write("memory.max", strconv.FormatUint(readField(filepath.Join(g.dir, "memory.current"), "")+probeRoom, 10))
	case "pids":
		return g.write("pids.max", strconv.FormatUint(readField(filepath.Join(g.dir, "pids.current"), ""), 10))
	}
	return g.write("cpu.max", "1000 "+strconv.Itoa(cpuPeriod))
}

// throttled waits for the kernel's word that it has kept a spinning process from running (cpu.stat).
func (g *cgroup) throttled(deadline time.Time) func(int) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for readField(filepath.Join(g.dir, "cpu.stat"), "nr_throttled ") == 0 {
		if time.Now().After(deadline) {
			return func(int) error { return errors.New("a process that went beyond it was not stopped (nr_throttled 0)") }
		}
		<-tick.C
	}
	return func(int) error { return nil }
}

// RunLimitProbe is the whole life of a process that was started to try a limit; for any other it returns at once. args are those of
// the program with its name.
func RunLimitProbe(args []string) {
	if len(args) != 3 || args[1] != probeCommand {
		return
	}
	var gate [2]byte // '?' when it is in the cgroup, '!' when the limit is set
	for n := 0; n < len(gate); {
		got, err := os.Stdin.Read(gate[n:])
		if err != nil {
			os.Exit(probeDone)
		}
		n += got
	}
	switch args[2] {
	case "memory":
		greed := make([]byte, probeGreed)
		for i := 0; i < len(greed); i += os.Getpagesize() {
			greed[i] = 1
		}
	case "pids":
		_, _ = syscall.ForkExec("/proc/self/exe", []string{"pitboss", probeCommand, "none"}, &syscall.ProcAttr{Files: []uintptr{0}})
	case "cpu":
		for began := time.Now(); time.Since(began) < probePatience; {
		}
	}
	os.Exit(probeDone)
}
