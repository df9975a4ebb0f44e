package agent

import (
	"sync"
	"time"
)

const (
	// logRoom is how much of the log may wait for a slow reader, in bytes; what comes after it is lost, in whole lines.
	logRoom = 1 << 20
	// logPatience is how long the last lines may take at the end.
	logPatience = time.Second
)

// logSink is where entries go. put waits while there is no room, until stop is closed; an entry that cannot be put is given up.
type logSink interface {
	put(e logEntry, stop <-chan struct{}) error
}

// logEntry is one line of the log. A journal takes the fields, everything else the text.
type logEntry struct {
	text     []byte // with its newline
	message  string
	priority int // syslog(3)
	fields   map[string]string
}

func (e *logEntry) size() int {
	n := len(e.text) + len(e.message)
	for k, v := range e.fields {
		n += len(k) + len(v)
	}
	return n
}

// LogWriter takes the log's entries and never makes who logs wait: one goroutine of its own writes them, and what a reader that
// does not read leaves no room for is counted and lost. Close ends it.
type LogWriter struct {
	sink logSink
	room int

	mu      sync.Mutex // guards the following
	queue   []logEntry
	bytes   int
	lost    int       // since it was told
	tell    func(int) // told of losses once there is room again; may log
	closing bool

	wake chan struct{} // capacity 1
	stop chan struct{} // closed when patience at the end is over
	done chan struct{} // closed when the goroutine has left
}

func newLogWriter(sink logSink, room int) *LogWriter {
	w := &LogWriter{sink: sink, room: room, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go w.loop()
	return w
}

// TellLosses names who is told how many lines were lost, once there is room again.
func (w *LogWriter) TellLosses(tell func(lines int)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell = tell
}

// add queues an entry, or counts it as lost.
func (w *LogWriter) add(e logEntry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if size := e.size(); !w.closing && w.bytes+size <= w.room {
		w.queue = append(w.queue, e)
		w.bytes += size
	} else {
		w.lost++
	}
	w.poke()
}

func (w *LogWriter) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *LogWriter) loop() {
	defer close(w.done)
	for {
		<-w.wake
		for {
			e, more := w.next()
			if !more {
				break
			}
			_ = w.sink.put(e, w.stop) // there is nowhere to say that the log cannot be written
		}
		if w.account() {
			return
		}
	}
}

func (w *LogWriter) next() (e logEntry, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return e, false
	}
	e, w.queue = w.queue[0], w.queue[1:]
	w.bytes -= e.size()
	if len(w.queue) == 0 {
		w.queue = nil
	}
	return e, true
}

// account tells of losses and says whether the goroutine may end.
func (w *LogWriter) account() (over bool) {
	w.mu.Lock()
	lost, tell := w.lost, w.tell
	w.lost = 0
	over = w.closing && len(w.queue) == 0
	w.mu.Unlock()
	if lost > 0 && tell != nil && !over {
		tell(lost)
	}
	return over
}

// Line queues one line of text, without its newline, that is no record: what a worker wrote, or a word to whoever watches.
func (w *LogWriter) Line(text string) { w.add(logEntry{text: append([]byte(text), '\n')}) }

// Close writes what waits, for logPatience at most; what is logged after it is lost. It may be called more than once. A journal
// that does not read cannot be interrupted: then the goroutine is left to the end of the process.
func (w *LogWriter) Close() {
	w.mu.Lock()
	first := !w.closing
	w.closing = true
	w.mu.Unlock()
	w.poke()
	if !first {
		return
	}
	timer := time.NewTimer(logPatience)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C:
		close(w.stop)
		timer.Reset(2 * waitSlice * time.Millisecond)
		select {
		case <-w.done:
		case <-timer.C:
		}
	}
}
