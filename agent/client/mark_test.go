package client_test

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// mark is a FIFO that a tool opens for writing and closes to say how far it is. It is one event, for one waiter.
type mark struct {
	path string
	fd   int
}

func makeMark(path string) (*mark, error) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, fmt.Errorf("cannot make %q: %w", path, err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) // does not wait for a writer, and lets one open at once
	return &mark{path, fd}, err
}

func newMark(t *testing.T, path string) *mark {
	t.Helper()
	m, err := makeMark(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// wait returns when the tool has closed it, which is POLLHUP; a FIFO that nobody has opened yet has none (fs/pipe.c, pipe_poll).
// It gives up, with an error, after patience.
func (m *mark) wait() error {
	defer unix.Close(m.fd)
	set := []unix.PollFd{{Fd: int32(m.fd), Events: unix.POLLIN}}
	for {
		switch n, err := unix.Poll(set, int(patience.Milliseconds())); {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("nobody has opened %q within %s", m.path, patience)
		default:
			return nil
		}
	}
}
