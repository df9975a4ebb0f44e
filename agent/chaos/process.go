package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one process, pinned by its pidfd.
type Process struct {
	PID     int
	fd      int
	pool    string    // of a worker
	died    time.Time // set by watch
	watched chan struct{}
}

// Pin opens a pidfd. The caller knows that the process is not reaped yet.
func Pin(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open a pidfd of process %d (Linux 5.3): %w", pid, err)
	}
	return &Process{PID: pid, fd: fd}, nil
}

// Kill sends a signal by pidfd: it reaches this process or nobody.
func (p *Process) Kill(s syscall.Signal) { _ = unix.PidfdSendSignal(p.fd, s, nil, 0) }

// Gone waits for the death, at most so long.
func (p *Process) Gone(within time.Duration) bool {
	set := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	for end := time.Now().Add(within); ; {
		left := max(time.Until(end), 0)
		n, err := unix.Poll(set, int(left.Milliseconds()))
		if n == 1 || err != unix.EINTR {
			return n == 1
		}
	}
}

// watch notes the moment of the death. close joins it: by then everything is dead.
func (p *Process) watch() {
	p.watched = make(chan struct{})
	go func() {
		defer close(p.watched)
		if p.Gone(time.Hour) {
			p.died = time.Now()
		}
	}()
}

func (p *Process) close() {
	if p.watched != nil {
		<-p.watched
	}
	_ = unix.Close(p.fd)
}

// ChildrenOf lists the children of a process; none when it is gone.
func ChildrenOf(pid int) []int {
	var pids []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	read := 0
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err == nil {
			read++
		}
		for _, field := range strings.Fields(string(text)) {
			child, _ := strconv.Atoi(field)
			pids = append(pids, child)
		}
	}
	if read == 0 {
		return childrenByScan(pid)
	}
	return pids
}

// childrenByScan asks every process for its parent, where the kernel has no lists of children.
func childrenByScan(pid int) []int {
	var pids []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		child, err := strconv.Atoi(filepath.Base(dir))
		if err == nil && parentOf(child) == pid {
			pids = append(pids, child)
		}
	}
	return pids
}

// parentOf is the parent of a process, 0 when it is gone.
func parentOf(pid int) int {
	fields := statOf(pid)
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// statOf are the fields of proc/PID/stat from the state, the third, on; none when the process is gone.
func statOf(pid int) []string {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil
	}
	return strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
}
