package agent

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// logDescriptor writes to a descriptor that others share, without ever waiting in the write.
//
// O_NONBLOCK belongs to the open file, which the watchdog and the shell share, so it is not set. A pipe or terminal is opened
// once more; a socket takes MSG_DONTWAIT; a regular file does not block, and a second open file would have an offset of its own.
type logDescriptor struct {
	fd     int
	owned  bool // opened again
	socket bool
	ask    bool // could not be opened again: poll(2) says when an atomic write does not block
}

func newLogDescriptor(fd int) *logDescriptor {
	d := &logDescriptor{fd: fd}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return d
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		d.socket = true
	case unix.S_IFIFO, unix.S_IFCHR:
		again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		if err == nil {
			d.fd, d.owned = again, true
		}
		d.ask = err != nil
	}
	return d
}

// write returns EAGAIN where it would wait.
func (d *logDescriptor) write(b []byte) (int, error) {
	if d.ask {
		if !d.wait(0) {
			return 0, unix.EAGAIN
		}
		b = b[:min(len(b), atomicWrite)]
	}
	if d.socket {
		n, err := unix.SendmsgN(d.fd, b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return max(n, 0), err
	}
	n, err := unix.Write(d.fd, b)
	return max(n, 0), err
}

// wait says whether there is room, or an error to be met by a write, within that time.
func (d *logDescriptor) wait(most time.Duration) bool {
	p := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(p, int(most.Milliseconds()))
	return n > 0 || (err != nil && !errors.Is(err, unix.EINTR))
}

func (d *logDescriptor) close() {
	if d.owned {
		_ = unix.Close(d.fd)
	}
}
