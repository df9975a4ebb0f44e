package agent

import (
	"context"
	"strconv"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
)

const (
	// streamChunks and streamBytes are a stream's window (PROTOCOL.md §1).
	streamChunks = 16
	streamBytes  = 1 << 20
	// requestEnvelope is what a REQUEST frame holds besides tool and arguments, in bytes at the most.
	requestEnvelope = 64
)

// call is one try to run a call on a worker. Exactly one of a final frame and ended is delivered.
type call struct {
	ticket *ticket
	id     uint64
	tool   string
	stream bool
	frames chan *ipc.Frame // capacity: the stream's window and the final frame, so the reader never waits
	ended  chan *Error     // capacity 1: the worker died
}

func newCall(t *ticket, stream bool) *call {
	frames := 1
	if stream {
		frames += streamChunks
	}
	return &call{ticket: t, id: t.id, tool: t.tool, stream: stream, frames: make(chan *ipc.Frame, frames), ended: make(chan *Error, 1)}
}

// takes says whether a chunk may come now: the last place is for the final frame.
func (c *call) takes() bool { return c.stream && len(c.frames) < streamChunks }

// waiter is one call in the queue; assigned has capacity 1 and is written at most once.
type waiter struct {
	call     *call
	assigned chan *worker
	failed   chan *Error
}

// acquire finds a worker for a call, waiting in the queue if need be, and makes the call that worker's current one.
func (p *pool) acquire(ctx context.Context, c *call, deadline time.Time) (*worker, *Error) {
	p.mu.Lock()
	e := p.refusal()
	if c.ticket.place.cancelled {
		e = p.cancelled(c.ticket)
	}
	if e != nil {
		p.rejected++
		p.mu.Unlock()
		return nil, e
	}
	if w := p.takeIdle(); w != nil {
		p.assign(w, c)
		p.mu.Unlock()
		return w, nil
	}
	if len(p.queue) >= p.cfg().Queue.Max {
		p.rejected++
		p.mu.Unlock()
		return nil, failf(QueueFull, "queue of pool %q is full (%d calls wait); retry later or raise queue.max", p.name, p.cfg().Queue.Max)
	}
	wt := &waiter{call: c, assigned: make(chan *worker, 1), failed: make(chan *Error, 1)}
	p.queue = append(p.queue, wt)
	p.mu.Unlock()
	return p.await(ctx, wt, deadline)
}

// await is the life of a call in the queue: assigned, failed with the pool, out of time, or left by its client.
func (p *pool) await(ctx context.Context, wt *waiter, deadline time.Time) (*worker, *Error) {
	limit := time.Now().Add(p.cfg().Queue.Timeout)
	if deadline.Before(limit) {
		limit = deadline
	}
	timer := time.NewTimer(time.Until(limit))
	defer timer.Stop()
	var e *Error
	select {
	case w := <-wt.assigned:
		return w, nil
	case e = <-wt.failed:
		return nil, e
	case <-timer.C:
		e = failf(QueueTimeout, "call waited too long in the queue of pool %q and never ran; retry, or add workers", p.name)
	case <-ctx.Done():
		e = failf(CallCancelled, "client went away while the call waited in the queue of pool %q", p.name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.queue {
		if other == wt {
			p.queue = append(p.queue[:i], p.queue[i+1:]...)
			p.rejected++
			p.tellDrain()
			return nil, e
		}
	}
	// It left the queue in the same moment: the assignment (or failure) was first, and it counts.
	select {
	case w := <-wt.assigned:
		return w, nil
	case e := <-wt.failed:
		return nil, e
	}
}

// takeIdle returns the worker that has been idle longest, so that work is spread; p.mu is held.
func (p *pool) takeIdle() *worker {
	if len(p.idle) == 0 {
		return nil
	}
	w := p.idle[0]
	p.idle[0] = nil
	p.idle = p.idle[1:]
	return w
}

// assign makes c the current call of w; p.mu is held and w is in no list.
func (p *pool) assign(w *worker, c *call) {
	w.shown.current = c
	c.ticket.place.worker, c.ticket.place.began = w.id, time.Now()
	w.shown.calls++
	p.calls++
	p.transition(w, eventCallBegan)
}

// offer gives a ready worker to the first waiter, or makes it idle; p.mu is held.
func (p *pool) offer(w *worker) {
	if len(p.queue) > 0 {
		wt := p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		p.assign(w, wt.call)
		wt.assigned <- w
		return
	}
	p.idle = append(p.idle, w)
}

// giveBack frees the slot of a call that was assigned and is not sent.
func (p *pool) giveBack(w *worker, c *call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.shown.current == c && w.shown.state != stateStopping { // else its death is nobody's outcome any more
		p.free(w)
	}
	c.ticket.place.worker, c.ticket.place.began = "", time.Time{}
}

// free ends the current call of w and makes it ready for the next; p.mu is held.
func (p *pool) free(w *worker) {
	w.shown.current = nil
	p.transition(w, eventCallEnded)
	if w.shown.state == stateReady {
		p.offer(w)
	}
	p.tellDrain()
}

// withdraw takes w out of the idle list; p.mu is held.
func (p *pool) withdraw(w *worker) {
	for i, other := range p.idle {
		if other == w {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			return
		}
	}
}

// deliver hands a frame of the data socket to the call it answers. An answer to no running call is a protocol error: a
// process forked by a tool, or a second answer. A final frame frees the slot.
func (p *pool) deliver(w *worker, f *ipc.Frame) error {
	if f.Type == ipc.Request {
		return &ipc.ProtocolError{Code: "type", Detail: "REQUEST from a worker"}
	}
	if f.Type != ipc.Chunk {
		w.out.callEnded(f.Call) // before the slot can be another call's
	}
	p.mu.Lock()
	c := w.shown.current
	if c == nil || c.id != f.Call {
		p.mu.Unlock()
		return &ipc.ProtocolError{Code: "call", Detail: f.Type.String() + " for call " + strconv.FormatUint(f.Call, 10) + ", which is not running here"}
	}
	if w.shown.condemned {
		p.mu.Unlock()
		return nil
	}
	if f.Type == ipc.Chunk && !c.takes() {
		p.mu.Unlock()
		return &ipc.ProtocolError{Code: "credit", Detail: "CHUNK over the stream's credit, or for a call that is no stream"}
	}
	c.frames <- f // has room: only this reader writes to it
	if f.Type != ipc.Chunk {
		c.ticket.place.answered = true
		if w.shown.state != stateStopping {
			// A call in a stopping worker stays current: the slot is never handed on.
			p.free(w)
		}
	}
	p.mu.Unlock()
	return nil
}
