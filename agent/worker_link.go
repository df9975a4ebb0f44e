package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

// workerLink is the agent's ends of a worker's two sockets. Reading belongs to the worker's reader goroutines; writing is
// serialised here.
type workerLink struct {
	data    *dataSocket
	control *os.File

	dataMu   sync.Mutex // one frame at a time; may be held while a large request is written
	dataW    *ipc.FrameWriter
	patience patience // of the frame that is being written

	controlMu sync.Mutex
	frame     []byte
}

// newWorkerLink makes both pairs; theirs are data and control in this order, for the caller to pass on and close.
func newWorkerLink(id string) (link *workerLink, theirs []*os.File, err error) {
	l, ends := &workerLink{}, make([]*os.File, 2)
	defer func() {
		if err != nil {
			l.close()
			closeFiles(ends)
		}
	}()
	var ours int
	if ours, ends[0], err = streamPair(id + " data"); err != nil {
		return nil, nil, err
	}
	if l.data, err = newDataSocket(ours, id+" data"); err != nil {
		return nil, nil, err
	}
	if ours, ends[1], err = streamPair(id + " control"); err != nil {
		return nil, nil, err
	}
	err = unix.SetNonblock(ours, true) // so that the runtime's poller takes it
	l.control = os.NewFile(uintptr(ours), id+" control")
	l.dataW = ipc.NewFrameWriter(dataWriter{l})
	return l, ends, err
}

// streamPair returns two connected sockets; both block.
func streamPair(name string) (ours int, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("cannot create the socket pair %q: %w", name, err)
	}
	return fds[0], os.NewFile(uintptr(fds[1]), name+" (other end)"), nil
}

// patience is how long a writer waits for a worker that does not read.
type patience struct {
	ctx      context.Context
	deadline time.Time
}

// dataWriter writes the frame that is being sent, with its patience.
type dataWriter struct{ link *workerLink }

func (w dataWriter) Write(p []byte) (int, error) {
	if err := w.link.data.write(w.link.patience, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// sendData writes one frame on the data socket. While the worker does not read it waits, as long as its caller has patience
// and the link lives.
func (l *workerLink) sendData(f *ipc.Frame, p patience) error {
	l.dataMu.Lock()
	defer l.dataMu.Unlock()
	l.patience = p
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
	if l.data != nil {
		l.data.close()
	}
	_ = l.control.Close()
}
