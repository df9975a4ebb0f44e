package main

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// needsWatchdog refuses --die-with-parent where off, a flag or a key, leaves the watchdog out.
func needsWatchdog(off string) error {
	return fail(exitUsage, "leave one of the two away", "--die-with-parent needs the watchdog, which %s leaves out", off)
}

// endOfInput is the second witness of the caller's end, beside the watchdog's pidfd: the end of a pipe on standard input, which
// the kernel closes for a caller that dies in whatever way, even before anybody had looked at its number.
type endOfInput struct {
	cancelled, cancel *os.File // a pipe whose end ends the wait
}

// newEndOfInput returns nil when standard input is no pipe or socket: a file's end says nothing about anybody.
func newEndOfInput() (*endOfInput, error) {
	var stat unix.Stat_t
	if unix.Fstat(0, &stat) != nil || (stat.Mode&unix.S_IFMT != unix.S_IFIFO && stat.Mode&unix.S_IFMT != unix.S_IFSOCK) {
		return nil, nil
	}
	cancelled, cancel, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &endOfInput{cancelled, cancel}, nil
}

// wait returns true at the end of the input, and false after stop. What comes before the end is thrown away.
func (e *endOfInput) wait() bool {
	defer e.cancelled.Close()
	set := []unix.PollFd{{Fd: 0, Events: unix.POLLIN}, {Fd: int32(e.cancelled.Fd()), Events: unix.POLLIN}}
	buf := make([]byte, 4096)
	for {
		if _, err := unix.Poll(set, -1); err != nil {
			continue // EINTR
		}
		if set[1].Revents != 0 {
			return false
		}
		if set[0].Revents == 0 {
			continue
		}
		n, err := unix.Read(0, buf)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if n <= 0 {
			return true
		}
	}
}

func (e *endOfInput) stop() { _ = e.cancel.Close() }
