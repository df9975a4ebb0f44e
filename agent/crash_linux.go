package agent

import (
	"fmt"
	"os"
	"strings"
	"sync"
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
// worker, and because it can be read after the death. Where there are no memfds it is an unlinked file.
type crashFile struct {
	file *os.File

	mu   sync.Mutex // held during a dump, by which two of them do not mix; guards the following
	told int64      // where what nobody has been told begins, in bytes
	// owed says that a dump was asked for and did not come in time: the signal may still be pending, as in a stopped process.
	owed   bool
	closed bool
}

// newCrashFile makes the crash file of a worker; dir is for a kernel or a sandbox that refuses memfds.
func newCrashFile(id, dir string) (*crashFile, error) {
	if fd, err := memfd("pitboss-crash-" + id); err == nil {
		return &crashFile{file: os.NewFile(uintptr(fd), "crash file of "+id)}, nil
	}
	file, err := unlinkedFile(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot create the crash file of %s: %w", id, err)
	}
	return &crashFile{file: file}, nil
}

// unlinkedFile has no name any more.
func unlinkedFile(dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, ".crash-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// memfd asks for one that can never be executed (Linux 6.3): before 6.6 a kernel with vm.memfd_noexec=2 refuses any other.
func memfd(name string) (int, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL {
		return unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	return fd, err
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

// dump asks the worker for the Python stack of its main thread and waits until it is written, dead says that the worker
// is gone, or limit is over; then complete is false. faulthandler answers in the signal handler itself, so C code that
// holds the GIL does not hinder it; a stopped process does, unless wake lets it go on once the signal is on its way.
func (c *crashFile) dump(process *pidfd, sig int, dead <-chan struct{}, limit time.Duration, wake func()) (text string, complete bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || sig == 0 {
		return "", false
	}
	begun := time.Now()
	if c.owed && c.size() > c.told { // the one that was too late for who asked
		late, complete := c.await(c.told, dead, limit)
		if !complete {
			return strings.TrimSpace(late), false
		}
		c.told, c.owed = c.told+int64(len(late)), false
	}
	// A signal that is still pending is not sent again: what it brings is written after this moment.
	if !c.owed && process.signal(syscall.Signal(sig)) != nil {
		return "", false
	}
	c.owed = true
	if wake != nil {
		wake()
	}
	text, complete = c.await(c.told, dead, limit-time.Since(begun))
	if complete {
		c.told, c.owed = c.told+int64(len(text)), false
	}
	return strings.TrimSpace(text), complete
}

// await reads what comes after start until it is a whole dump that grows no more.
func (c *crashFile) await(start int64, dead <-chan struct{}, limit time.Duration) (text string, complete bool) {
	tick := time.NewTicker(dumpQuiet)
	defer tick.Stop()
	patience := time.NewTimer(limit)
	defer patience.Stop()
	last := start
	for {
		select {
		case <-tick.C:
			size := c.size()
			if size > start && size == last {
				if text := c.read(start, size); wholeDump(text) {
					return text, true
				}
			}
			last = size
		case <-patience.C:
			return c.read(start, c.size()), false
		case <-dead:
			return c.read(start, c.size()), false
		}
	}
}

// lastWords is what the worker wrote at its death: without the dumps that somebody was given while it lived, and
// without one that came too late for that.
func (c *crashFile) lastWords() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return lastDump(c.text(c.told), c.owed)
}

func (c *crashFile) read(from, to int64) string {
	b := make([]byte, to-from)
	n, _ := c.file.ReadAt(b, from)
	return string(b[:n])
}

// close waits for a dump that is being read.
func (c *crashFile) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		_ = c.file.Close()
	}
}
