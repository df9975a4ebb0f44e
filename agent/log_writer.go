package agent

import (
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// logBound is how many bytes of log may wait for a reader that is slow.
	logBound = 1 << 20
	// logFlush is how long Close waits for the reader.
	logFlush = time.Second
	// logPoll is how often a writer that is stuck looks whether it should give up.
	logPoll = 50 * time.Millisecond
)

// LogWriter takes lines and never waits for whoever reads them: one goroutine writes, up to 1 MiB may wait for it, and what does
// not fit is lost and counted. A write that succeeds after a loss is followed by a report to OnLost's function.
// Lines that wait when the process dies are lost without a count.
type LogWriter struct {
	out     *logDescriptor
	wake    chan struct{} // capacity 1
	closing chan struct{}
	ended   chan struct{}

	mu       sync.Mutex // guards the following; nothing is waited for while it is held
	queue    logQueue
	report   func(lines uint64)
	closed   bool
	deadline time.Time // monotonic; set before closing is closed
}

// NewLogWriter starts a writer to the descriptor, which it does not close. Close joins it.
func NewLogWriter(file *os.File) *LogWriter { return newLogWriter(int(file.Fd()), logBound) }

func newLogWriter(fd, bound int) *LogWriter {
	w := &LogWriter{out: newLogDescriptor(fd), wake: make(chan struct{}, 1), closing: make(chan struct{}), ended: make(chan struct{}),
		queue: logQueue{bound: bound}}
	go w.run()
	return w
}

// OnLost names what is told how many lines were lost, by the writer's goroutine, once there is room again. It may log.
func (w *LogWriter) OnLost(report func(lines uint64)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.report = report
}

// Write takes whole lines, all or none of them, and never fails.
func (w *LogWriter) Write(lines []byte) (int, error) {
	w.add(lines, w.queue.put)
	return len(lines), nil
}

// Dump takes a text of any size, such as the stacks of every goroutine, unless the queue is full already.
func (w *LogWriter) Dump(text []byte) { w.add(text, w.queue.putWhole) }

func (w *LogWriter) add(text []byte, put func([]byte) bool) {
	w.mu.Lock()
	if w.closed {
		w.queue.lost += countLines(text)
	} else {
		put(text)
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Close writes what waits, for at most 1 s, and ends the writer. Lines that come later are lost.
func (w *LogWriter) Close() { w.close(logFlush) }

func (w *LogWriter) close(within time.Duration) {
	w.mu.Lock()
	first := w.deadline.IsZero()
	if first {
		w.deadline = time.Now().Add(within)
	}
	w.mu.Unlock()
	if first {
		close(w.closing)
	}
	<-w.ended
}

func (w *LogWriter) run() {
	defer close(w.ended)
	defer w.out.close()
	var batch []byte
	for {
		if batch = w.take(batch); len(batch) > 0 {
			if w.write(batch) {
				w.tellLost()
			}
			continue
		}
		select {
		case <-w.wake:
		case <-w.closing:
			if w.end() {
				return
			}
		}
	}
}

func (w *LogWriter) take(spare []byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queue.take(spare)
}

// end refuses what comes from now on, unless something has come and there is time for it.
func (w *LogWriter) end() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = len(w.queue.pending) == 0 || time.Now().After(w.deadline)
	return w.closed
}

// tellLost follows a write that went through, so that the report does not cause the next loss where nobody reads at all.
func (w *LogWriter) tellLost() {
	w.mu.Lock()
	report, n := w.report, uint64(0)
	if room := w.queue.written(); room && report != nil {
		n = w.queue.takeLost()
	}
	w.mu.Unlock()
	if n > 0 {
		report(n)
	}
}

// write says whether all of the batch was written; what was not is counted as lost.
func (w *LogWriter) write(batch []byte) bool {
	for len(batch) > 0 {
		rest := batch[:chunkOf(batch)]
		batch = batch[len(rest):]
		for len(rest) > 0 {
			n, err := w.out.write(rest)
			rest = rest[n:]
			switch {
			case err == nil, errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.EAGAIN) && !w.late():
				w.out.wait(logPoll)
			default:
				w.mu.Lock()
				w.queue.lost += countLines(rest) + countLines(batch)
				w.mu.Unlock()
				return false
			}
		}
	}
	return true
}

// late says whether the time that Close gave is over.
func (w *LogWriter) late() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.deadline.IsZero() && time.Now().After(w.deadline)
}
