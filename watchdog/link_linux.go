package watchdog

import (
	"errors"
	"syscall"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

// link is the watchdog's end of the guard link.
type link struct {
	fd       int // -1 once the agent has closed its end
	registry registry
	pending  []byte // an answer that the agent did not make room for; nothing more is read until it is sent
	buf      [ipc.MaxGuardSize]byte
}

func newLink(fd int) *link {
	return &link{fd: fd, registry: registry{pid: unix.Getpid(), kernel: kernel{
		probe: func(fd int) error { return unix.PidfdSendSignal(fd, 0, nil, 0) },
		dead:  readable,
		close: func(fd int) { _ = unix.Close(fd) },
	}}}
}

// wants is what poll(2) should wait for.
func (l *link) wants() int16 {
	if len(l.pending) > 0 {
		return unix.POLLOUT
	}
	return unix.POLLIN
}

// receive handles one message. more is false when there is none now, or none ever again; the link is then closed.
// last reads on although answers cannot be sent: the agent is dead and what it said before counts.
func (l *link) receive(last bool) (h heard, more bool) {
	if l.fd < 0 || !l.flush() && !last {
		return heard{}, false
	}
	n, fds, err := ipc.RecvPacket(l.fd, l.buf[:], ipc.MaxGuardFDs)
	switch {
	case err == nil:
		m, bad := ipc.DecodeGuard(l.buf[:n])
		if bad != nil {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
			h = refuse(m.Seq, syscall.EPROTO, bad.Error())
		} else {
			h = l.registry.admit(m, fds)
		}
	case errors.Is(err, ipc.ErrWouldBlock):
		return heard{}, false
	default:
		var cut *ipc.TruncatedError // here, because errors.As puts it on the heap and a beat must not pay for that
		if !errors.As(err, &cut) {  // the end
			_ = unix.Close(l.fd)
			l.fd, l.pending = -1, nil
			return heard{}, false
		}
		m, _ := ipc.DecodeGuard(l.buf[:n])
		errno := syscall.EMFILE
		if cut.Data {
			errno = syscall.EMSGSIZE
		}
		h = refuse(m.Seq, errno, err.Error())
	}
	if h.answer.Kind != 0 {
		l.pending = h.answer.Append(l.pending[:0])
		l.flush()
	}
	return h, true
}

// flush sends the pending answer; false when it still does not fit. An agent that is gone gets no answer.
func (l *link) flush() bool {
	if len(l.pending) == 0 {
		return true
	}
	// Not ipc.SendPacket, which allocates for descriptors: every beat is answered.
	if err := unix.Send(l.fd, l.pending, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err == unix.EAGAIN || err == unix.EINTR || err == unix.ENOBUFS {
		return false
	}
	l.pending = l.pending[:0]
	return true
}

// readable polls one descriptor without waiting.
func readable(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1 && p[0].Revents&unix.POLLIN != 0
}
