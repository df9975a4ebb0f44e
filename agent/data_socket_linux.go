package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dataSocket is our end of a worker's data socket. A call costs its two context switches and little else, so three things
// are unlike a plain *os.File, each measured (docs/figures.md):
//
//   - The runtime's poller would ask for writability too, and the kernel would wake this process whenever the worker takes a
//     request out of the socket. The socket is in an epoll instance of its own that asks for input alone, and that instance is
//     in the runtime's poller (epoll(7): an epoll descriptor can be polled). Writability is asked for while a writer waits.
//   - Reads and writes never block (MSG_DONTWAIT), so they are raw system calls: the scheduler and its monitor thread need not
//     know of them.
//
// One goroutine reads. One writes at a time: its link serialises.
type dataSocket struct {
	socket *os.File // in blocking mode, so that the runtime does not poll it; closed last
	poll   *os.File // the epoll instance
	events syscall.RawConn
	fd     syscall.RawConn

	in       []byte // the reader's: where the present read goes, and what came of it
	count    int
	err      error
	tryRead  func(uintptr) bool
	readOnce func(uintptr)

	writable chan struct{} // capacity 1: the reader saw an event while a writer waited
	over     chan struct{} // closed when the reader has left: nobody would see an event any more
	overOnce sync.Once
}

func newDataSocket(fd int, name string) (*dataSocket, error) {
	socket := os.NewFile(uintptr(fd), name)
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		_ = socket.Close()
		return nil, fmt.Errorf("cannot create an epoll instance for %q: %w", name, err)
	}
	s := &dataSocket{socket: socket, writable: make(chan struct{}, 1), over: make(chan struct{})}
	if err := errors.Join(unix.SetNonblock(epfd, true), unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: inputEvents})); err != nil {
		_, _ = unix.Close(epfd), socket.Close()
		return nil, fmt.Errorf("cannot watch the socket %q: %w", name, err)
	}
	s.poll = os.NewFile(uintptr(epfd), name+" (epoll)")
	s.tryRead, s.readOnce = s.attempt, s.receive
	if s.events, err = s.poll.SyscallConn(); err == nil {
		s.fd, err = socket.SyscallConn()
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

const inputEvents = unix.EPOLLIN | unix.EPOLLRDHUP

// Read waits for input; close ends the wait.
func (s *dataSocket) Read(p []byte) (int, error) {
	s.in = p
	if err := s.events.Read(s.tryRead); err != nil {
		return 0, err
	}
	if s.err == nil && s.count == 0 {
		return 0, io.EOF
	}
	return s.count, s.err
}

// attempt runs after every event of the epoll instance, whichever it was, and once before the first.
func (s *dataSocket) attempt(uintptr) bool {
	select {
	case s.writable <- struct{}{}:
	default:
	}
	if err := s.fd.Control(s.readOnce); err != nil {
		s.count, s.err = 0, err
	}
	return s.err != unix.EAGAIN
}

func (s *dataSocket) receive(fd uintptr) {
	s.count, s.err = transfer(unix.SYS_RECVFROM, fd, s.in, unix.MSG_DONTWAIT)
}

// readerLeft lets a writer go that waits for an event: its link is cut.
func (s *dataSocket) readerLeft() { s.overOnce.Do(func() { close(s.over) }) }

// errLinkCut is a write on a socket that nobody reads any more.
var errLinkCut = errors.New("the data socket was cut")

// write sends all of data. While the worker does not read it waits, until p or the link ends.
func (s *dataSocket) write(p patience, data []byte) error {
	for waiting := false; ; {
		n, err := s.send(data)
		if data = data[n:]; err != nil && err != unix.EAGAIN {
			return err
		}
		if len(data) == 0 {
			return nil
		}
		if !waiting {
			if waiting, err = true, s.ask(inputEvents|unix.EPOLLOUT); err != nil {
				return err
			}
			defer func() { _ = s.ask(inputEvents) }()
			continue
		}
		if err := s.await(p); err != nil {
			return err
		}
	}
}

func (s *dataSocket) send(p []byte) (n int, err error) {
	if outer := s.fd.Control(func(fd uintptr) {
		n, err = transfer(unix.SYS_SENDTO, fd, p, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}); outer != nil {
		return 0, outer
	}
	return n, err
}

func (s *dataSocket) ask(events uint32) error {
	var modify, socket error
	instance := s.events.Control(func(epfd uintptr) {
		socket = s.fd.Control(func(fd uintptr) {
			modify = unix.EpollCtl(int(epfd), unix.EPOLL_CTL_MOD, int(fd), &unix.EpollEvent{Events: events})
		})
	})
	return errors.Join(instance, socket, modify)
}

func (s *dataSocket) await(p patience) error {
	timer := time.NewTimer(time.Until(p.deadline))
	defer timer.Stop()
	select {
	case <-s.writable:
		return nil
	case <-s.over:
		return errLinkCut
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}

// close ends the reader's wait, and with it a writer's; the descriptors live on while one of the two still uses them.
func (s *dataSocket) close() {
	s.readerLeft()
	if s.poll != nil {
		_ = s.poll.Close()
	}
	_ = s.socket.Close()
}

// transfer is recvfrom(2) or sendto(2) on a connected socket, with flags that forbid it to block.
func transfer(call, fd uintptr, p []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
