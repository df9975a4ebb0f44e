package agent

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

// workerLink is the agent's ends of a worker's two sockets. Reading belongs to the worker's reader goroutines; writing is
// serialised here.
type workerLink struct {
	data, control *os.File

	dataMu sync.Mutex // one frame at a time; may be held while a large request is written
	dataW  *ipc.FrameWriter

	controlMu sync.Mutex
	frame     []byte
}

// newWorkerLink makes both pairs; theirs are data and control in this order, for the caller to pass on and close.
func newWorkerLink(id string) (link *workerLink, theirs []*os.File, err error) {
	data, dataTheirs, err := streamPair(id + " data")
	if err != nil {
		return nil, nil, err
	}
	control, controlTheirs, err := streamPair(id + " control")
	if err != nil {
		_, _ = data.Close(), dataTheirs.Close()
		return nil, nil, err
	}
	return &workerLink{data: data, control: control, dataW: ipc.NewFrameWriter(data)}, []*os.File{dataTheirs, controlTheirs}, nil
}

// streamPair returns our end (non-blocking, in the poller) and the other, which blocks.
func streamPair(name string) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot create the socket pair %q: %w", name, err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		_, _ = unix.Close(fds[0]), unix.Close(fds[1])
		return nil, nil, fmt.Errorf("cannot prepare the socket pair %q: %w", name, err)
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name+" (other end)"), nil
}

// sendData writes one frame on the data socket. It waits while the worker does not read; close ends the wait.
func (l *workerLink) sendData(f *ipc.Frame) error {
	l.dataMu.Lock()
	defer l.dataMu.Unlock()
	return l.dataW.Write(f)
}

// errLinkFull is a control socket whose buffer is full: that worker's control thread has not read for hundreds of
// frames. The link is as good as cut.
var errLinkFull = errors.New("the control socket's buffer is full")

// sendControl writes one frame on the control socket and never waits: a part of a frame or none is a cut link.
func (l *workerLink) sendControl(f *ipc.Frame) error {
	l.controlMu.Lock()
	defer l.controlMu.Unlock()
	l.frame = ipc.AppendFrame(l.frame[:0], f)
	raw, err := l.control.SyscallConn()
	if err != nil {
		return err
	}
	var n int
	var inner error
	err = raw.Control(func(fd uintptr) {
		n, inner = unix.SendmsgN(int(fd), l.frame, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	})
	switch {
	case err != nil:
		return err
	case inner == unix.EAGAIN || (inner == nil && n < len(l.frame)):
		return errLinkFull
	}
	return inner
}

// close closes both sockets: readers and writers that wait return, and a worker that still lives sees EOF.
func (l *workerLink) close() {
	_ = l.data.Close()
	_ = l.control.Close()
}
