package agent

import (
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pipe is our end of a worker's stdout or stderr. It knows which bytes are of which call: a worker has written all that a call
// prints before it answers, so what lies in the pipe when the answer is here is that call's, whenever it is read.
type pipe struct {
	file *os.File
	raw  syscall.RawConn // of file

	mu    sync.Mutex // guards the following; held while bytes are taken or counted, which never waits
	taken int64      // bytes so far; written by the reader alone
	told  int64      // up to where the reader has asked for calls
	marks []callMark // by upTo
	count func(fd uintptr)
	left  int32 // what count has found
}

// callMark says that the bytes before upTo which no earlier mark has are of a call.
type callMark struct {
	upTo int64
	call uint64
}

func newPipe(fd int) *pipe {
	p := &pipe{file: os.NewFile(uintptr(fd), "output pipe")}
	p.raw, _ = p.file.SyscallConn() // fails for a nil file only
	p.count = func(fd uintptr) {
		// FIONREAD, which is TIOCINQ (ioctl_tty(2), pipe(7)), never blocks, so the scheduler need not know of it.
		_, _, _ = unix.RawSyscall(unix.SYS_IOCTL, fd, unix.TIOCINQ, uintptr(unsafe.Pointer(&p.left)))
	}
	return p
}

// take is the reader's read(2).
func (p *pipe) take(fd int, buf []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, err := unix.Read(fd, buf)
	p.taken += int64(max(n, 0))
	return n, err
}

// callEnded marks what is in the pipe, and what the reader has taken and not told yet, as a call's.
func (p *pipe) callEnded(call uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = 0
	_ = p.raw.Control(p.count) // a closed pipe has nothing left
	upTo := p.taken + int64(p.left)
	if upTo == p.told || len(p.marks) > 0 && p.marks[len(p.marks)-1].upTo == upTo {
		return // it has written nothing
	}
	p.marks = append(p.marks, callMark{upTo, call})
}

// callAt is the call that wrote the byte before offset; running says which runs now. Offsets only grow.
func (p *pipe) callAt(offset int64, running func() uint64) uint64 {
	now := running() // it takes the pool's lock: not under ours, which callEnded takes with the pool's held
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = offset
	for len(p.marks) > 0 && p.marks[0].upTo < offset {
		p.marks = p.marks[1:]
	}
	if len(p.marks) > 0 {
		return p.marks[0].call
	}
	return now
}

// callEnded is told of a call's answer before anything is done with it.
func (o *output) callEnded(call uint64) {
	for _, p := range o.pipes {
		p.callEnded(call)
	}
}
