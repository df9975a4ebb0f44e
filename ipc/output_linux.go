package ipc

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// MaxLine is PIPE_BUF: a write of at most this many bytes to a pipe is whole or nothing (pipe(7)).
const MaxLine = 4096

// Output is a descriptor that others write to as well, such as standard error, written to without ever waiting.
//
// O_NONBLOCK cannot be set on the descriptor itself, since whoever inherited it shares its open file. A pipe or terminal is
// therefore opened once more; a socket takes MSG_DONTWAIT; a regular file does not block, and must not be opened again,
// because a second offset would write over the first one's lines.
type Output struct {
	fd     int
	socket bool
	poll   bool // could not be opened again: ask poll(2) first
}

// NewOutput prepares fd, which stays the caller's; it is not closed.
func NewOutput(fd int) *Output {
	o := &Output{fd: fd}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return o
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		o.socket = true
	case unix.S_IFIFO, unix.S_IFCHR:
		again, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		o.poll = err != nil
		if err == nil {
			o.fd = again
		}
	}
	return o
}

// Write writes as much of b as fits now. EAGAIN says that nothing does.
//
// The Go runtime ignores SIGPIPE from a raw write; only os.File turns EPIPE on descriptor 2 into death.
func (o *Output) Write(b []byte) (int, error) {
	if o.poll {
		if ready, err := o.Wait(0); err != nil || !ready {
			return 0, unix.EAGAIN
		}
		b = b[:min(len(b), MaxLine)]
	}
	if o.socket {
		return unix.SendmsgN(o.fd, b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
	return unix.Write(o.fd, b)
}

// Wait waits up to the given number of milliseconds for room; -1 waits without end. A descriptor whose other end is gone is
// ready: the next Write says so.
func (o *Output) Wait(ms int) (ready bool, err error) {
	p := []unix.PollFd{{Fd: int32(o.fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(p, ms)
	if err == unix.EINTR {
		return false, nil
	}
	return n > 0, err
}
