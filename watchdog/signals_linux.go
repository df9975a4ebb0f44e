package watchdog

import (
	"os"
	"os/signal"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// signalPipe turns signals into bytes of a pipe, so that one poll(2) waits for everything.
type signalPipe struct {
	read    int
	hangups bool // a HUP means that the terminal is gone: stop
}

// openSignals catches everything that is sent to a watchdog. INT and HUP stay ignored when they were at the start (nohup, a
// background job of sh). SIGCHLD has a channel of its own: a flood of it must not push a TERM out.
func openSignals() (*signalPipe, *failure) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, &failure{exitInternal, "cannot make the signal pipe: " + err.Error()}
	}
	wanted := []os.Signal{syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGPIPE}
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			wanted = append(wanted, s)
		}
	}
	asked := make(chan os.Signal, 32)
	signal.Notify(asked, wanted...)
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	// Lives as long as the process: it waits for signals, which have no end.
	go func() {
		var b [1]byte
		for {
			var s os.Signal
			select {
			case s = <-asked:
			case s = <-children:
			}
			b[0] = byte(s.(syscall.Signal))
			// It cannot block, so the scheduler is not told and needs no thread for it. Full: 64 KiB of signals are unread, one more
			// changes nothing.
			_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(p[1]), uintptr(unsafe.Pointer(&b[0])), 1)
		}
	}()
	return &signalPipe{read: p[0], hangups: hasTerminal()}, nil
}

// hasTerminal must be asked at the start: when the HUP comes, the terminal cannot be opened any more.
func hasTerminal() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err == nil
}

// drain appends the signals that came since the last call to buf[:0].
func (s *signalPipe) drain(buf []byte) []byte {
	n, err := unix.Read(s.read, buf[:cap(buf)])
	if err != nil || n < 0 {
		return buf[:0]
	}
	return buf[:n]
}

// meaning is the event behind a signal; ok is false for those that are no business of the agent.
func meaning(signal int, hangups bool) (event, bool) {
	switch syscall.Signal(signal) {
	case syscall.SIGINT, syscall.SIGTERM:
		return event{kind: evStop, signal: signal}, true
	case syscall.SIGHUP:
		if hangups {
			return event{kind: evStop, signal: int(syscall.SIGTERM)}, true
		}
		return event{kind: evForward, signal: signal}, true
	case syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2:
		return event{kind: evForward, signal: signal}, true
	case syscall.SIGABRT:
		return event{kind: evAbort}, true
	}
	return event{}, false
}

func isTerminalStop(signal int) bool {
	switch syscall.Signal(signal) {
	case syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU:
		return true
	}
	return false
}
