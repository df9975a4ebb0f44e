package watchdog

import (
	"golang.org/x/sys/unix"
)

// children lists and reaps the children of this process. The kernel keeps them per thread: a clone belongs to the thread
// that made it, an orphan to the first live thread, which is the main one.
type children struct {
	lists []int // open proc/self/task/TID/children; none where the kernel has no such files
	scan  *scan // looks at every process then
}

func openChildren() (*children, *failure) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, &failure{exitInternal, "cannot become the subreaper (prctl PR_SET_CHILD_SUBREAPER): " + err.Error() +
			"; run Linux 5.4 or later, or let the sandbox (seccomp) pass this call"}
	}
	threads := []int{unix.Getpid()}
	if tid := unix.Gettid(); tid != threads[0] {
		threads = append(threads, tid)
	}
	var c children
	for _, tid := range threads {
		path := "/proc/self/task/" + itoa(tid) + "/children"
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT { // no CONFIG_PROC_CHILDREN
			return scanForChildren()
		}
		if err != nil {
			return nil, &failure{exitInternal, "cannot open " + quote(path) + ": " + err.Error()}
		}
		c.lists = append(c.lists, fd)
	}
	return &c, nil
}

// list reads the pids of all children, zombies too. They cannot be reused before this process reaps them.
func (c *children) list() []int32 {
	if c.scan != nil {
		return c.scan.children()
	}
	var pids []int32
	for _, fd := range c.lists {
		pids = appendPIDs(pids, fd)
	}
	return pids
}

// appendPIDs reads a list of children to its end.
func appendPIDs(pids []int32, fd int) []int32 {
	var buf [4096]byte
	pid, inside := int32(0), false
	for at := int64(0); ; {
		n, err := unix.Pread(fd, buf[:], at)
		if err != nil || n <= 0 {
			break
		}
		at += int64(n)
		for _, ch := range buf[:n] {
			switch {
			case ch >= '0' && ch <= '9':
				pid, inside = pid*10+int32(ch-'0'), true
			case inside:
				pids = append(pids, pid)
				pid, inside = 0, false
			}
		}
	}
	if inside {
		pids = append(pids, pid)
	}
	return pids
}

// living are those of these children that are no zombies.
func (c *children) living(pids []int32) []int32 {
	alive := pids[:0]
	for _, pid := range pids {
		var death unix.Siginfo // its signal number stays 0 while the process lives
		err := unix.Waitid(unix.P_PID, int(pid), &death, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil)
		if err != unix.ECHILD && death.Signo == 0 {
			alive = append(alive, pid)
		}
	}
	return alive
}

// anyLives reports whether a child lives. Where all are dead, what they leave is ours by now and makes the next list longer: nobody
// reaps between the two.
func (c *children) anyLives() bool {
	first := c.list()
	known := len(first)
	return len(c.living(first)) > 0 || len(c.list()) != known
}

// reap collects one dead child. childless means ECHILD: there is no child at all, dead or alive, which is the proof.
func (c *children) reap() (pid int32, status unix.WaitStatus, childless bool) {
	for {
		n, err := unix.Wait4(-1, &status, unix.WNOHANG|unix.WALL, nil)
		switch err {
		case nil:
			return int32(n), status, false
		case unix.EINTR:
		default:
			return 0, 0, true
		}
	}
}

// hasChildren reports whether this process was born with children: `sidecar & exec pitboss …` in a shell script.
func hasChildren() bool {
	err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil)
	return err != unix.ECHILD
}
