package agent

import "bytes"

// atomicWrite is PIPE_BUF: a write of at most this many bytes to a pipe is never mixed with another's (pipe(7)). The watchdog
// writes to the same standard error.
const atomicWrite = 4096

// logQueue holds whole lines up to a bound in bytes, those that are being written included. What does not fit is counted.
type logQueue struct {
	bound   int
	pending []byte
	writing int // bytes that take gave out
	lost    uint64
}

// put keeps a copy of the lines, all or none.
func (q *logQueue) put(lines []byte) bool {
	if len(q.pending)+q.writing+len(lines) > q.bound {
		q.lost += countLines(lines)
		return false
	}
	q.pending = append(q.pending, lines...)
	return true
}

// putWhole keeps a text that may be larger than the bound, unless the queue is full already.
func (q *logQueue) putWhole(text []byte) bool {
	if len(q.pending)+q.writing >= q.bound {
		q.lost += countLines(text)
		return false
	}
	q.pending = append(q.pending, text...)
	return true
}

// take gives out everything that waits; spare is the buffer of the batch before, which is written by now.
func (q *logQueue) take(spare []byte) (batch []byte) {
	batch, q.pending = q.pending, spare[:0]
	q.writing = len(batch)
	return batch
}

// written gives the batch's room back, and says whether there is enough of it for a report of what was lost.
func (q *logQueue) written() (room bool) {
	q.writing = 0
	return len(q.pending) <= q.bound/2
}

// takeLost is how many lines were lost since it was last asked.
func (q *logQueue) takeLost() uint64 {
	n := q.lost
	q.lost = 0
	return n
}

// countLines counts an unfinished last line, too.
func countLines(text []byte) uint64 {
	n := uint64(bytes.Count(text, []byte{'\n'}))
	if len(text) > 0 && text[len(text)-1] != '\n' {
		n++
	}
	return n
}

// chunkOf is the length of what to write at once: as many whole lines as one atomic write takes, or one longer line.
func chunkOf(batch []byte) int {
	if len(batch) <= atomicWrite {
		return len(batch)
	}
	if end := bytes.LastIndexByte(batch[:atomicWrite], '\n'); end >= 0 {
		return end + 1
	}
	if end := bytes.IndexByte(batch, '\n'); end >= 0 {
		return end + 1
	}
	return len(batch)
}
