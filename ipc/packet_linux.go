package ipc

import (
	"errors"
	"io"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxPacketFDs is SCM_MAX_FD of the kernel: sendmsg refuses more with EINVAL (unix(7)).
const maxPacketFDs = 253

// TruncatedError is a packet that did not arrive whole. Every descriptor that did arrive has been closed.
type TruncatedError struct {
	// Data is true when bytes are missing (MSG_TRUNC: the buffer was too small).
	Data bool
	// Control is true when descriptors are missing (MSG_CTRUNC): more were sent than were expected, or the receiver was
	// at its RLIMIT_NOFILE. The kernel reports the second only by this flag, never as an error.
	Control bool
}

func (e *TruncatedError) Error() string {
	switch {
	case e.Data && e.Control:
		return "packet arrived without all of its bytes and descriptors"
	case e.Data:
		return "packet arrived without all of its bytes"
	}
	return "packet arrived without all of its descriptors"
}

// PacketPair makes a connected pair of SOCK_SEQPACKET unix sockets, both non-blocking and close-on-exec.
// The peer credentials of either end are those of the caller (unix(7), SO_PEERCRED).
func PacketPair() (a, b int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, -1, &opError{"cannot make socket pair", err}
	}
	return fds[0], fds[1], nil
}

// SendPacket sends one packet with its descriptors and never waits: ErrWouldBlock when the peer does not read. data must
// not be empty, since a receiver cannot tell an empty packet from the end. The caller keeps its descriptors. A peer that has
// gone is ECONNRESET once if it left packets unread, else EPIPE; neither raises a signal.
func SendPacket(fd int, data []byte, fds []int) error {
	if len(data) == 0 {
		return errors.New("cannot send packet: no data")
	}
	if len(fds) > maxPacketFDs {
		return &TooLargeError{What: "descriptor list", Size: uint64(len(fds)), Limit: maxPacketFDs}
	}
	var control []byte
	if len(fds) > 0 {
		control = unix.UnixRights(fds...)
	}
	for {
		_, err := unix.SendmsgN(fd, data, control, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch err {
		case nil:
			return nil
		case unix.EINTR:
		case unix.EAGAIN:
			return ErrWouldBlock
		default:
			return &opError{"cannot send packet", err}
		}
	}
}

// RecvPacket receives one packet into buf and never waits. It returns
//
//   - n > 0 and at most maxFDs close-on-exec descriptors, which the caller owns;
//   - io.EOF when the peer has closed its end and all that it sent before has been received;
//   - ErrWouldBlock when there is no packet;
//   - *TruncatedError when bytes or descriptors are missing: n is what lies in buf, no descriptor is left open;
//   - another error, with no descriptor.
func RecvPacket(fd int, buf []byte, maxFDs int) (n int, fds []int, err error) {
	if maxFDs < 0 || maxFDs > maxPacketFDs {
		return 0, nil, &TooLargeError{What: "descriptor list", Size: uint64(maxFDs), Limit: maxPacketFDs}
	}
	var room [64]byte // enough for eight descriptors, without the heap
	control := room[:0]
	if maxFDs > 0 {
		if need := unix.CmsgSpace(4 * maxFDs); need <= len(room) {
			control = room[:need]
		} else {
			control = make([]byte, need)
		}
	}
	n, cn, flags, err := recvmsg(fd, buf, control)
	if err == unix.ECONNRESET {
		// A peer that closes with packets unread sets this error once, ahead of what it sent itself (af_unix.c,
		// unix_release_sock). Its last words lie behind it in the queue: the next look finds them, then the end.
		n, cn, flags, err = recvmsg(fd, buf, control)
	}
	switch {
	case err == unix.EAGAIN:
		return 0, nil, ErrWouldBlock
	case err != nil:
		return 0, nil, &opError{"cannot receive packet", err}
	}
	fds, err = rights(control[:cn])
	if err != nil {
		return 0, nil, err
	}
	// The kernel fills the padding of an odd count with one descriptor more and then sets no flag.
	noBytes, noFDs := flags&unix.MSG_TRUNC != 0, flags&unix.MSG_CTRUNC != 0 || len(fds) > maxFDs
	if noBytes || noFDs {
		closeAll(fds)
		return n, nil, &TruncatedError{Data: noBytes, Control: noFDs}
	}
	if n == 0 {
		closeAll(fds)
		return 0, nil, io.EOF
	}
	return n, fds, nil
}

// recvmsg is unix.Recvmsg without its allocations: the watchdog receives a beat every second for months. It cannot block, so the
// scheduler is not told of it either.
func recvmsg(fd int, buf, control []byte) (n, cn, flags int, err error) {
	var iov unix.Iovec
	if len(buf) > 0 {
		iov.Base = &buf[0]
	}
	iov.SetLen(len(buf))
	for {
		msg := unix.Msghdr{Iov: &iov}
		msg.SetIovlen(1)
		if len(control) > 0 {
			msg.Control = &control[0]
			msg.SetControllen(len(control))
		}
		r, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		switch errno {
		case 0:
			return int(r), int(msg.Controllen), int(msg.Flags), nil
		case unix.EINTR:
		default:
			return 0, 0, 0, errno
		}
	}
}

// rights returns the descriptors in control messages, and closes all of them if one message cannot be parsed.
func rights(control []byte) ([]int, error) {
	if len(control) == 0 {
		return nil, nil
	}
	var fds []int
	for len(control) > 0 {
		head, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			closeAll(fds)
			return nil, &opError{"cannot parse control message", err}
		}
		control = rest
		got, err := unix.ParseUnixRights(&unix.SocketControlMessage{Header: head, Data: data})
		if err != nil {
			continue // of another kind: credentials, when the socket asks for them
		}
		if fds == nil {
			fds = got
		} else {
			fds = append(fds, got...)
		}
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// opError is a system call that failed. It unwraps to the errno, because callers branch on it.
type opError struct {
	op  string
	err error
}

func (e *opError) Error() string {
	if n, ok := e.err.(unix.Errno); ok {
		return e.op + ": " + n.Error() + " (errno " + strconv.Itoa(int(n)) + ")"
	}
	return e.op + ": " + e.err.Error()
}

func (e *opError) Unwrap() error { return e.err }
