package agent

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// outputRate is how many lines a second one stream may put into the log on average, outputBurst how many at once.
	outputRate  = 1000
	outputBurst = 2000
	// maxLine cuts a line in the log, in bytes.
	maxLine = 8 << 10
	// keptLines is how many of the last lines a post-mortem shows.
	keptLines = 50
	readChunk = 64 << 10
	// floodPipe is the size that the pipe of a flooding stream gets (F_SETPIPE_SZ; the most without privilege), and
	// floodPause how long its reader rests once it has emptied it: seldom enough that one call in a hundred of the other
	// workers meets it, often enough that 100 MB a second do not fill the pipe and block the worker.
	floodPipe  = 1 << 20
	floodPause = 10 * time.Millisecond
	// narrowPause is the same where the pipe keeps its 64 KiB, because its user has too many pages in pipes (pipe(7)).
	narrowPause = 2 * time.Millisecond
)

// outputSink takes one line of a worker; call is the id of the call that ran when it was written, 0 for none.
type outputSink func(stream string, call uint64, line string)

// output reads a process's stdout and stderr, line by line, for the log and the post-mortem. While the agent runs a
// worker never blocks on its log: lines over the rate are counted and dropped, but always read.
type output struct {
	sink    outputSink
	call    func() uint64
	buffers *sync.Pool
	dropped atomic.Uint64

	mu   sync.Mutex
	last []string // ring of the last lines, oldest first

	pipes [2]*pipe
	ended chan struct{} // closed when both streams are at their end
}

// newOutput makes the two pipes and starts their readers; theirs are the write ends for stdout and stderr, which the
// caller passes on and closes. close joins the readers.
func newOutput(sink outputSink, call func() uint64, buffers *sync.Pool) (o *output, theirs []*os.File, err error) {
	o = &output{sink: sink, call: call, buffers: buffers, ended: make(chan struct{})}
	for i := range o.pipes {
		var fds [2]int
		err := unix.Pipe2(fds[:], unix.O_CLOEXEC)
		if err == nil {
			err = unix.SetNonblock(fds[0], true)
		}
		if err != nil {
			closeFiles(theirs)
			for _, p := range o.pipes[:i] {
				_ = p.file.Close()
			}
			return nil, nil, fmt.Errorf("cannot create an output pipe: %w", err)
		}
		o.pipes[i] = newPipe(fds[0])
		theirs = append(theirs, os.NewFile(uintptr(fds[1]), "output pipe (other end)"))
	}
	var both sync.WaitGroup
	for i, stream := range []string{"stdout", "stderr"} {
		both.Go(func() { o.read(o.pipes[i], stream) })
	}
	go func() { both.Wait(); close(o.ended) }()
	return o, theirs, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// close ends the readers even where somebody still holds a write end, and waits for them.
func (o *output) close() {
	for _, p := range o.pipes {
		_ = p.file.Close()
	}
	<-o.ended
}

// tail is the last lines, oldest first.
func (o *output) tail() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.last...)
}

func (o *output) read(pipe *pipe, stream string) {
	l := lineBucket{tokens: outputBurst, at: time.Now()}
	var rest []byte // an unfinished line
	var droppedSince uint64
	var pause time.Duration // 0 until the first flood
	for {
		buf, n, err := o.readPooled(pipe)
		if buf != nil {
			var dropped uint64
			rest, dropped = o.lines(pipe, stream, rest, buf[:n], &l)
			droppedSince += dropped
			o.buffers.Put(buf)
		}
		if droppedSince > 0 && (err != nil || l.tokens >= 1) {
			o.sink(stream, 0, fmt.Sprintf("[%d lines dropped: over %d lines a second]", droppedSince, outputRate))
			droppedSince = 0
		}
		if err != nil {
			if len(rest) > 0 {
				o.emit(stream, rest, pipe.callAt(pipe.taken, o.call))
			}
			return
		}
		if l.tokens < 1 {
			if pause == 0 {
				pause = widen(pipe.file)
			}
			if n < readChunk { // else there is more, and the worker may be waiting for room
				time.Sleep(pause)
			}
		}
	}
}

// widen makes room for what comes during a pause, and says how long that may be.
func widen(pipe *os.File) time.Duration {
	pause := narrowPause
	if raw, err := pipe.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			if size, err := unix.FcntlInt(fd, unix.F_SETPIPE_SZ, floodPipe); err == nil && size >= floodPipe {
				pause = floodPause
			}
		})
	}
	return pause
}

// readPooled waits for output and reads it into a shared buffer, which is held only from then on; buf is nil with an error.
func (o *output) readPooled(pipe *pipe) (buf *[readChunk]byte, n int, err error) {
	var inner error
	err = pipe.raw.Read(func(fd uintptr) bool {
		buf, _ = o.buffers.Get().(*[readChunk]byte)
		if buf == nil {
			buf = new([readChunk]byte)
		}
		n, inner = pipe.take(int(fd), buf[:])
		if n > 0 {
			return true
		}
		o.buffers.Put(buf)
		buf = nil
		return inner != unix.EAGAIN && inner != unix.EINTR
	})
	switch {
	case err != nil:
		return nil, 0, err
	case inner != nil:
		return nil, 0, inner
	case buf == nil:
		return nil, 0, io.EOF
	}
	return buf, n, nil
}

// lines emits the whole lines of rest+chunk within the rate, and returns the unfinished one and how many were dropped.
func (o *output) lines(pipe *pipe, stream string, rest, chunk []byte, l *lineBucket) (unfinished []byte, dropped uint64) {
	l.refill(time.Now())
	for {
		if l.tokens < 1 {
			// Over the rate: count what is here without looking at each line.
			n := uint64(bytes.Count(chunk, []byte{'\n'}))
			o.dropped.Add(n)
			if i := bytes.LastIndexByte(chunk, '\n'); i >= 0 {
				chunk, rest = chunk[i+1:], rest[:0]
			}
			return appendLine(rest, chunk), dropped + n
		}
		i := bytes.IndexByte(chunk, '\n')
		if i < 0 {
			return appendLine(rest, chunk), dropped
		}
		o.emit(stream, appendLine(rest, chunk[:i]), pipe.callAt(pipe.taken-int64(len(chunk)-i-1), o.call))
		l.tokens--
		rest, chunk = rest[:0], chunk[i+1:]
	}
}

func appendLine(line, more []byte) []byte {
	if room := maxLine - len(line); len(more) > room {
		more = more[:max(room, 0)]
	}
	return append(line, more...)
}

func (o *output) emit(stream string, line []byte, call uint64) {
	text := string(bytes.ToValidUTF8(line, []byte("\uFFFD")))
	o.mu.Lock()
	if len(o.last) == keptLines {
		copy(o.last, o.last[1:])
		o.last = o.last[:keptLines-1]
	}
	o.last = append(o.last, text)
	o.mu.Unlock()
	o.sink(stream, call, text)
}

// lineBucket is a token bucket: one token a line.
type lineBucket struct {
	tokens float64
	at     time.Time // monotonic
}

func (b *lineBucket) refill(now time.Time) {
	b.tokens = min(outputBurst, b.tokens+now.Sub(b.at).Seconds()*outputRate)
	b.at = now
}
