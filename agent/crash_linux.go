package agent

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxStack is the most of a worker's stack dump that is kept, in bytes; the newest part wins.
	maxStack = 64 << 10
	// dumpLimit bounds the wait for a stack dump before a kill.
	dumpLimit = 500 * time.Millisecond
	// dumpQuiet is how long the file must not grow for the dump to count as complete.
	dumpQuiet = 25 * time.Millisecond
)

// crashFile is where a worker's faulthandler writes: a memfd and not a pipe, because a full pipe can block a crashing
// worker, and because it can be read after the death.
type crashFile struct{ file *os.File }

func newCrashFile(id string) (*crashFile, error) {
	fd, err := unix.MemfdCreate("pitboss-crash-"+id, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot create the crash file of %s: %w", id, err)
	}
	return &crashFile{os.NewFile(uintptr(fd), "crash file of "+id)}, nil
}

// text is what the worker wrote so far, from offset on, cut from the front to maxStack.
func (c *crashFile) text(offset int64) string {
	size := c.size()
	if size-offset > maxStack {
		offset = size - maxStack
	}
	if size <= offset {
		return ""
	}
	b := make([]byte, size-offset)
	n, _ := c.file.ReadAt(b, offset)
	return strings.TrimSpace(string(b[:n]))
}

func (c *crashFile) size() int64 {
	info, err := c.file.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// dump asks the worker for the Python stacks of all threads and waits until they are written, dead says that the worker
// is gone, or dumpLimit is over. faulthandler answers in the signal handler itself, so C code that holds the GIL does
// not hinder it; a stopped process does.
func (c *crashFile) dump(process *pidfd, sig int, dead <-chan struct{}) string {
	start := c.size()
	if sig == 0 || process.signal(syscall.Signal(sig)) != nil {
		return ""
	}
	tick := time.NewTicker(dumpQuiet)
	defer tick.Stop()
	limit := time.NewTimer(dumpLimit)
	defer limit.Stop()
	last := start
	for {
		select {
		case <-tick.C:
			size := c.size()
			if size > start && size == last {
				return c.text(start)
			}
			last = size
		case <-limit.C:
			return c.text(start)
		case <-dead:
			return c.text(start)
		}
	}
}

func (c *crashFile) close() { _ = c.file.Close() }
