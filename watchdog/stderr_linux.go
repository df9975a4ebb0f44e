package watchdog

import (
	"golang.org/x/sys/unix"
)

// maxLine is PIPE_BUF: a write of at most this many bytes to a pipe is whole or nothing (pipe(7)).
const maxLine = 4096

// writer writes lines to standard error and never waits: a line that does not fit is dropped.
//
// O_NONBLOCK cannot be set on descriptor 2 itself, since the agent and others share its open file. A pipe or terminal is
// therefore opened once more; a socket takes MSG_DONTWAIT; a regular file does not block, and must not be opened again,
// because a second offset would write over the first one's lines.
type writer struct {
	fd     int
	socket bool
	poll   bool // could not be opened again: ask poll(2) first
}

func newWriter(fd int) *writer {
	w := &writer{fd: fd}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return w
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		w.socket = true
	case unix.S_IFIFO, unix.S_IFCHR:
		again, err := unix.Open("/proc/self/fd/"+itoa(fd), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		w.poll = err != nil
		if err == nil {
			w.fd = again
		}
	}
	return w
}

// line writes "pitboss-watchdog: text".
func (w *writer) line(text string) { w.raw("pitboss-watchdog: " + text) }

// raw writes one line; longer than maxLine it is cut. Errors are ignored, there is nowhere to report them.
func (w *writer) raw(text string) {
	if len(text) > maxLine-1 {
		text = text[:maxLine-1]
	}
	b := append([]byte(text), '\n')
	if w.poll {
		p := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLOUT}}
		if n, err := unix.Poll(p, 0); err != nil || n == 0 || p[0].Revents&unix.POLLOUT == 0 {
			return
		}
	}
	if w.socket {
		_ = unix.Sendto(w.fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
		return
	}
	// The Go runtime ignores SIGPIPE from a raw write; only os.File turns EPIPE on descriptor 2 into death.
	_, _ = unix.Write(w.fd, b)
}
