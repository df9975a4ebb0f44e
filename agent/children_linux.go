package agent

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// strangerPatience is how long the end of the agent waits for the death of what it has killed.
const strangerPatience = 5 * time.Second

// children owns every child process of the agent: those that it starts itself (launchers, the command of a sidecar) and
// those that fall to it because it is a subreaper (keepers of a dead launcher, which it knows, and strangers, which it
// kills: nothing that user code left behind outlives its guardian).
//
// One mutex covers [clone … pid recorded] and [list children … kill]: a child is listed in /proc before clone returns,
// so a sweep beside it would kill it at birth. All clones happen on one locked thread that never ends, because
// PDEATHSIG fires when the creating thread ends (prctl(2)), not the process.
type children struct {
	mu    sync.Mutex
	known map[int]*pidfd // by pid, whom the sweep must leave alone; removed when reaped
	// denied has the strangers that refused KILL (EPERM: they changed their user), until they are reaped.
	denied map[int]bool
	// killed has when each other stranger was killed first, until it is reaped.
	killed map[int]time.Time

	list func(pid int) []int // the children of a process, zombies too; see childLister

	clones chan func()
	stop   chan struct{}
	done   sync.WaitGroup
	// onSweep is told about each stranger that was killed, onLeft once about each that does not end; called without mu.
	onSweep func(pid int)
	onLeft  func(survivor)
}

func newChildren(n *niceness, onSweep func(pid int), onLeft func(survivor)) (*children, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("cannot become a subreaper (Linux 3.4): %w", err)
	}
	c := &children{known: map[int]*pidfd{}, denied: map[int]bool{}, killed: map[int]time.Time{}, list: childLister(), clones: make(chan func()), stop: make(chan struct{}), onSweep: onSweep, onLeft: onLeft}
	c.done.Add(2)
	go c.cloneLoop(n)
	go c.sweepLoop()
	return c, nil
}

// close ends the two loops, and then every stranger that is left: one that has just been killed is a zombie a moment
// later, and its children fall to us only then. Nothing may be started afterwards.
func (c *children) close() {
	close(c.stop)
	c.done.Wait()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(strangerPatience)
	for c.sweep() > 0 || c.unlisted() {
		if time.Now().After(deadline) {
			for _, s := range c.strangers() {
				c.onLeft(s)
			}
			return
		}
		<-tick.C
	}
}

// cloneLoop is the one thread that starts processes. It is never unlocked and, but for close, never ends. What it starts has its niceness.
func (c *children) cloneLoop(n *niceness) {
	defer c.done.Done()
	runtime.LockOSThread()
	n.leave()
	for {
		select {
		case f := <-c.clones:
			f()
		case <-c.stop:
			return
		}
	}
}

// start starts argv with exactly these descriptors as 0, 1, 2, … in its own process group and returns its handle.
func (c *children) start(path string, argv, env []string, dir string, files []*os.File, sys *syscall.SysProcAttr) (*pidfd, error) {
	var handle *pidfd
	var err error
	ran := make(chan struct{})
	job := func() {
		defer close(ran)
		c.mu.Lock()
		defer c.mu.Unlock()
		handle, err = clone(path, argv, env, dir, files, sys)
		if err == nil {
			c.known[handle.pid] = handle
		}
	}
	select {
	case c.clones <- job:
		<-ran
		return handle, err
	case <-c.stop:
		return nil, errors.New("cannot start a process: the agent is ending")
	}
}

func clone(path string, argv, env []string, dir string, files []*os.File, sys *syscall.SysProcAttr) (*pidfd, error) {
	fd := -1
	attr := syscall.SysProcAttr{Setpgid: true}
	if sys != nil {
		attr = *sys
	}
	attr.PidFD = &fd
	fds := make([]uintptr, len(files))
	for i, f := range files {
		fds[i] = f.Fd()
	}
	pid, err := forkExec(path, argv, &syscall.ProcAttr{Dir: dir, Env: env, Files: fds, Sys: &attr})
	runtime.KeepAlive(files)
	if err != nil {
		return nil, fmt.Errorf("cannot start %q: %w", path, err)
	}
	if fd < 0 {
		return openPidfd(pid) // no CLONE_PIDFD (Linux 5.2, or a sandbox); our child is not reaped yet, so the number is safe
	}
	return newPidfd(pid, fd)
}

// expect says that this process may become our child (a keeper whose launcher dies) and must not be swept.
func (c *children) expect(p *pidfd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[p.pid] = p
}

// forget ends expect, when the process was reaped by its own parent. From that moment on its number may be another one's, which
// was expected meanwhile: that stays known.
func (c *children) forget(p *pidfd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(p)
}

// drop removes exactly this process; mu is held.
func (c *children) drop(p *pidfd) {
	if c.known[p.pid] == p {
		delete(c.known, p.pid)
	}
}

// reap collects a child of ours that has ended.
func (c *children) reap(p *pidfd) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(p)
	return p.reap()
}

// sweepLoop sweeps whenever a child of the agent changed state, and once more when a stranger should long have died.
func (c *children) sweepLoop() {
	defer c.done.Done()
	woken := make(chan os.Signal, 1)
	signal.Notify(woken, syscall.SIGCHLD)
	defer signal.Stop(woken)
	var overdue <-chan time.Time
	for {
		select {
		case <-woken:
		case <-overdue:
		case <-c.stop:
			return
		}
		overdue = nil
		if c.sweep() > 0 {
			overdue = time.After(strangerPatience)
		}
	}
}

// sweep kills every child that nobody here knows. A killed one ends with another SIGCHLD, which sweeps again and finds what it leaves
// behind in turn. Nobody is reaped while one of them may still die of its KILL: a zombie takes the room that a fork bomb at its limit
// (RLIMIT_NPROC, pids.max) would fill. It returns how many strangers there were.
func (c *children) sweep() (found int) {
	var left []survivor
	var ended []int
	c.mu.Lock()
	strangers := c.unknown()
	for {
		dying, refuse := c.kill(strangers)
		left = append(left, refuse...)
		if dying {
			break
		}
		// What the dead had started became ours before they could be seen as dead.
		again := c.unknown()
		if !slices.ContainsFunc(again, func(pid int) bool { return !slices.Contains(strangers, pid) }) {
			ended = c.collect(strangers)
			break
		}
		strangers = again
	}
	c.mu.Unlock()
	for _, pid := range ended {
		c.onSweep(pid)
	}
	for _, s := range left {
		c.onLeft(s)
	}
	return len(strangers)
}

// unknown are the children that nobody here knows; mu is held.
func (c *children) unknown() []int {
	return slices.DeleteFunc(c.list(os.Getpid()), func(pid int) bool { return c.known[pid] != nil })
}

// kill kills these strangers; mu is held. dying says that one of them lives, but should not for long; left has those that refuse for the
// first time. They are our children and nobody else reaps them, so that their numbers are safe.
func (c *children) kill(strangers []int) (dying bool, left []survivor) {
	now := time.Now()
	for _, pid := range strangers {
		if c.ended(pid) {
			continue
		}
		refused, _ := unix.Kill(pid, unix.SIGKILL).(syscall.Errno)
		switch {
		case refused == 0 && c.killed[pid].IsZero():
			c.killed[pid], dying = now, true
		case refused == 0:
			dying = dying || now.Sub(c.killed[pid]) < strangerPatience
		case !c.denied[pid]:
			c.denied[pid] = true
			left = append(left, lookAt(pid, refused))
		}
	}
	return dying, left
}

// ended says that a child is a zombie; mu is held.
func (c *children) ended(pid int) bool {
	var info unix.Siginfo
	return waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT) == nil && siginfoPID(&info) != 0
}

// collect reaps those of these strangers that have ended, and returns them; mu is held.
func (c *children) collect(strangers []int) (ended []int) {
	for _, pid := range strangers {
		var info unix.Siginfo
		if waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG) == nil && siginfoPID(&info) != 0 {
			ended = append(ended, pid)
			delete(c.denied, pid)
			delete(c.killed, pid)
		}
	}
	return ended
}

// strangers are the children that nobody here knows and of whom onLeft was not told.
func (c *children) strangers() (all []survivor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, pid := range c.list(os.Getpid()) {
		if c.known[pid] == nil && !c.denied[pid] {
			all = append(all, lookAt(pid, 0))
		}
	}
	return all
}

// listChildren lists the pids of all children of a process. Children are listed per thread (proc(5), Linux 3.5 with
// CONFIG_PROC_CHILDREN); adopted ones appear under a thread of the kernel's choice.
func listChildren(pid int) []int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var pids []int
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // that thread ended
		}
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func waitid(kind, id int, info *unix.Siginfo, options int) error {
	for {
		err := unix.Waitid(kind, id, info, options, nil)
		if err != unix.EINTR {
			return err
		}
	}
}

// sigchldInfo is the layout of siginfo_t for SIGCHLD on 64-bit Linux (sigaction(2)): signo, errno, code, padding, then
// pid, uid and status.
type sigchldInfo struct {
	signo, errno, code, _ int32
	pid                   int32
	uid                   uint32
	status                int32
}

func siginfoPID(info *unix.Siginfo) int {
	return int((*sigchldInfo)(unsafe.Pointer(info)).pid)
}

// siginfoStatus is the exit code, or −signal.
func siginfoStatus(info *unix.Siginfo) int {
	s := (*sigchldInfo)(unsafe.Pointer(info))
	const cldExited = 1 // CLD_EXITED
	if s.code == cldExited {
		return int(s.status)
	}
	return -int(s.status)
}
