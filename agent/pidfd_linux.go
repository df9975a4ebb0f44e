package agent

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// pidfd is a process as a handle: it names the same process for ever, whatever happens to the number
// (pidfd_open(2), Linux 5.3; waiting on it, 5.4). The number is kept for log lines and status only.
type pidfd struct {
	pid     int
	file    *os.File    // non-blocking, in the runtime's poller
	guarded atomic.Bool // the watchdog has a copy
}

// openPidfd turns a number into a handle. The caller knows that the process cannot have been reaped: it is our own
// unreaped child, or its parent keeps it unreaped until we say that we hold it.
func openPidfd(pid int) (*pidfd, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open a pidfd of process %d: %w", pid, err)
	}
	return newPidfd(pid, fd)
}

// openChildPidfd turns a number that Python reported into a handle, and believes it only if the process is a child of one of
// these parents: a reporter that died meanwhile no longer keeps the number, and it may be a stranger's by now.
func openChildPidfd(pid int, parents ...int) (*pidfd, error) {
	p, err := openPidfd(pid)
	if err != nil {
		return nil, err
	}
	parent := parentOf(pid)
	// Not reaped after the look: so the look was at the handle's own process.
	err = p.control(func(fd int) error { return unix.PidfdSendSignal(fd, 0, nil, 0) })
	if err == nil && slices.Contains(parents, parent) {
		return p, nil
	}
	p.close()
	return nil, fmt.Errorf("cannot take process %d: it is no child of %v any more (its parent is %d)", pid, parents, parent)
}

// parentOf is field 4 of /proc/PID/stat (proc(5)), 0 when it cannot be read.
func parentOf(pid int) int {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(string(fields[1]))
	return parent
}

// forkExec is syscall.ForkExec for a sandbox that refuses clone with CLONE_PIDFD, too: then attr's PidFD stays as it was.
func forkExec(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != unix.ENOSYS && err != unix.EPERM && err != unix.EINVAL {
		return pid, err
	}
	attr.Sys.PidFD = nil
	return syscall.ForkExec(path, argv, attr) // an error that was another's comes again
}

func newPidfd(pid, fd int) (*pidfd, error) {
	// O_NONBLOCK makes os.NewFile hand it to the poller; pidfds report readable at the end of the process (5.3).
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("cannot make the pidfd of process %d pollable: %w", pid, err)
	}
	return &pidfd{pid: pid, file: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// wait returns nil when the process has ended (all threads; it may still be a zombie), or an error when the handle was
// closed first.
func (p *pidfd) wait() error {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return err == nil && n == 1
	})
}

// signal sends sig to this one process, never to its group. ESRCH is no error: it is gone already.
func (p *pidfd) signal(sig syscall.Signal) error {
	err := p.control(func(fd int) error { return unix.PidfdSendSignal(fd, sig, nil, 0) })
	if err == unix.ESRCH {
		return nil
	}
	return err
}

// reap collects the status of a child of ours (waitid(2) with P_PIDFD, Linux 5.4): exit code ≥ 0, or −signal.
// It does not wait: the caller has seen the end through wait.
func (p *pidfd) reap() (int, error) {
	status := 0
	err := p.control(func(fd int) error {
		var info unix.Siginfo
		if err := waitid(unix.P_PIDFD, fd, &info, unix.WEXITED|unix.WNOHANG); err != nil {
			return err
		}
		status = siginfoStatus(&info)
		return nil
	})
	return status, err
}

func (p *pidfd) control(f func(fd int) error) error {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

func (p *pidfd) close() { _ = p.file.Close() }
