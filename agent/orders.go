package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

// maxOrder is the largest order in bytes (PROTOCOL.md §2).
const maxOrder = 64 << 10

// orderLink is the agent's end of a SOCK_SEQPACKET link to a launcher or keeper: one JSON object per message.
type orderLink struct {
	file *os.File
	mu   sync.Mutex // one message at a time; a send never blocks, so it is held for microseconds
}

// orderBuffers are shared by all links: a link needs one only while a message is being taken out of it.
type orderBuffers struct{ pool sync.Pool }

func (b *orderBuffers) get() *[maxOrder]byte {
	if buf, ok := b.pool.Get().(*[maxOrder]byte); ok {
		return buf
	}
	return new([maxOrder]byte)
}

// newOrderLink makes a pair and returns our end and the other, which the caller passes on and closes.
func newOrderLink(name string) (*orderLink, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot create the %s link: %w", name, err)
	}
	// The Python end blocks; only ours lives in the poller.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		_, _ = unix.Close(fds[0]), unix.Close(fds[1])
		return nil, nil, fmt.Errorf("cannot prepare the %s link: %w", name, err)
	}
	link := &orderLink{file: os.NewFile(uintptr(fds[0]), name)}
	return link, os.NewFile(uintptr(fds[1]), name+" (other end)"), nil
}

// send sends one order with its descriptors. It never waits: a peer that does not read costs an error here, not a
// blocked agent.
func (l *orderLink) send(order any, files ...*os.File) error {
	text, err := json.Marshal(order)
	if err != nil {
		return err
	}
	if len(text) > maxOrder {
		return &ipc.TooLargeError{What: "order", Size: uint64(len(text)), Limit: maxOrder}
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	raw, err := l.file.SyscallConn()
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = ipc.SendPacket(int(fd), text, fds) }); err != nil {
		return err
	}
	return inner
}

// receive waits for the next order and decodes it into a value of T. Descriptors are never expected from Python.
func receiveOrder[T any](l *orderLink, buffers *orderBuffers) (T, error) {
	var order T
	raw, err := l.file.SyscallConn()
	if err != nil {
		return order, err
	}
	var inner error
	err = raw.Read(func(fd uintptr) bool {
		buf := buffers.get()
		defer buffers.pool.Put(buf)
		var n int
		n, _, inner = ipc.RecvPacket(int(fd), buf[:], 0)
		if errors.Is(inner, ipc.ErrWouldBlock) {
			return false
		}
		if inner == nil {
			inner = json.Unmarshal(buf[:n], &order)
		}
		return true
	})
	switch {
	case err != nil:
		return order, err
	case inner != nil:
		return order, fmt.Errorf("cannot receive an order: %w", inner)
	}
	return order, nil
}

func (l *orderLink) close() { _ = l.file.Close() }

func linkEnded(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) || errors.Is(err, unix.ECONNRESET)
}
