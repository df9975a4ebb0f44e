package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
)

const (
	// streamChunks and streamBytes are a stream's window (PROTOCOL.md §1).
	streamChunks = 16
	streamBytes  = 1 << 20
	// largeRequest is the size in bytes from which a request may not fit an idle worker's socket buffer, so that writing
	// it needs a deadline of its own.
	largeRequest = 64 << 10
)

// call is one call that a worker runs. Exactly one of a final frame and ended is delivered.
type call struct {
	id     uint64
	tool   string
	frames chan *ipc.Frame // capacity: the stream's window and the final frame, so the reader never waits
	ended  chan *Error     // capacity 1: the worker died
}

// waiter is one call in the queue; assigned has capacity 1 and is written at most once.
type waiter struct {
	call     *call
	assigned chan *worker
	failed   chan *Error
}

// acquire finds a worker for a call, waiting in the queue if need be, and makes the call that worker's current one.
func (p *pool) acquire(ctx context.Context, c *call, deadline time.Time) (*worker, *Error) {
	p.mu.Lock()
	if e := p.refusal(); e != nil {
		p.rejected++
		p.mu.Unlock()
		return nil, e
	}
	if w := p.takeIdle(); w != nil {
		p.assign(w, c)
		p.mu.Unlock()
		return w, nil
	}
	if len(p.queue) >= p.cfg.Queue.Max {
		p.rejected++
		p.mu.Unlock()
		return nil, failf(QueueFull, "queue of pool %q is full (%d calls wait); retry later or raise queue.max", p.cfg.Name, p.cfg.Queue.Max)
	}
	wt := &waiter{call: c, assigned: make(chan *worker, 1), failed: make(chan *Error, 1)}
	p.queue = append(p.queue, wt)
	p.mu.Unlock()
	return p.await(ctx, wt, deadline)
}

// await is the life of a call in the queue: assigned, failed with the pool, out of time, or left by its client.
func (p *pool) await(ctx context.Context, wt *waiter, deadline time.Time) (*worker, *Error) {
	limit := time.Now().Add(p.cfg.Queue.Timeout)
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
		e = failf(QueueTimeout, "call waited too long in the queue of pool %q and never ran; retry, or add workers", p.cfg.Name)
	case <-ctx.Done():
		e = failf(CallCancelled, "client went away while the call waited in the queue of pool %q", p.cfg.Name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.queue {
		if other == wt {
			p.queue = append(p.queue[:i], p.queue[i+1:]...)
			p.rejected++
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
}

// free ends the current call of w and makes it ready for the next; p.mu is held.
func (p *pool) free(w *worker) {
	w.shown.current = nil
	p.transition(w, eventCallEnded)
	if w.shown.state == stateReady {
		p.offer(w)
	}
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
	if f.Type != ipc.Chunk && w.shown.state != stateStopping {
		// A call in a stopping worker stays current: the slot is never handed on.
		p.free(w)
	}
	p.mu.Unlock()
	select {
	case c.frames <- f:
		return nil
	default:
		return &ipc.ProtocolError{Code: "credit", Detail: "CHUNK over the stream's credit"}
	}
}

// perform runs a call on the worker that acquire gave it, until its one outcome.
func (p *pool) perform(ctx context.Context, w *worker, c *call, req *Request, deadline time.Time, chunk func(*Value) error) (*Result, error) {
	if err := w.request(c, req, deadline); err != nil {
		w.order(endOrder{stage: endKill, why: "cannot write the request: " + err.Error()})
		if time.Now().After(deadline) {
			return p.timedOut(w, c, req)
		}
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	credit := creditor{worker: w, call: c.id}
	for {
		select {
		case f := <-c.frames:
			if f.Type == ipc.Chunk && chunk == nil {
				w.order(endOrder{stage: endKill, why: "protocol error: CHUNK for a call that is no stream"})
				continue // its death is the outcome
			}
			if f.Type == ipc.Chunk {
				if err := chunk(&Value{JSON: f.JSON, Parts: f.Parts}); err != nil {
					return p.abandoned(w, c)
				}
				credit.consumed(f)
				continue
			}
			return p.outcome(w, c, f)
		case e := <-c.ended:
			select { // what was complete before the death is the outcome
			case f := <-c.frames:
				if f.Type != ipc.Chunk {
					return p.outcome(w, c, f)
				}
			default:
			}
			e.Tool, e.Call = c.tool, c.id
			p.countError()
			return nil, e
		case <-timer.C:
			return p.timedOut(w, c, req)
		case <-ctx.Done():
			return p.abandoned(w, c)
		}
	}
}

// request writes the REQUEST frame. A large one gets the call's deadline, as a worker that stopped would block it.
func (w *worker) request(c *call, req *Request, deadline time.Time) error {
	args := req.Args.JSON
	if len(args) == 0 {
		args = []byte("{}")
	}
	tool, err := json.Marshal(c.tool)
	if err != nil {
		return err
	}
	text := make([]byte, 0, len(args)+len(tool)+64)
	text = append(text, `{"tool":`...)
	text = append(text, tool...)
	text = append(text, `,"timeout_us":`...)
	text = strconv.AppendInt(text, max(time.Until(deadline).Microseconds(), 1), 10)
	text = append(text, `,"args":`...)
	text = append(text, args...)
	text = append(text, '}')
	f := &ipc.Frame{Type: ipc.Request, Call: c.id, JSON: text, Parts: req.Args.Parts}
	if f.Size() > largeRequest {
		if err := w.link.data.SetWriteDeadline(deadline); err != nil {
			return err
		}
		defer func() { _ = w.link.data.SetWriteDeadline(time.Time{}) }()
	}
	return w.link.sendData(f)
}

// outcome turns a final frame into the call's result or error.
func (p *pool) outcome(w *worker, c *call, f *ipc.Frame) (*Result, error) {
	if f.Type == ipc.Result {
		return &Result{Value: Value{JSON: f.JSON, Parts: f.Parts}, Call: c.id, Worker: w.id}, nil
	}
	p.countError()
	var body struct {
		Reason, Type, Message, Traceback string
		Data                             json.RawMessage
		Retryable                        bool
	}
	if err := json.Unmarshal(f.JSON, &body); err != nil {
		return nil, failf(Internal, "cannot read the error of tool %q: %v", c.tool, err)
	}
	e := &Error{Reason: Reason(body.Reason), Pool: p.cfg.Name, Worker: w.id, Tool: c.tool, Call: c.id, MayHaveRun: true,
		Type: body.Type, Traceback: body.Traceback, Data: body.Data, Message: body.Message}
	switch e.Reason {
	case BadArguments:
		e.MayHaveRun = false
	case ToolRaised:
		e.Message = fmt.Sprintf("tool %q raised %s: %s", c.tool, body.Type, body.Message)
	case PayloadTooLarge, UnknownTool:
	default: // a tool's own reason, by ToolError
		e.Reason = ToolRaised
	}
	return e.result()
}

func (e *Error) result() (*Result, error) { return nil, e }

// condemn takes the slot out of service while c runs in it. It reports false when c has just ended: then the slot may
// already run another call, which must not be killed for this one.
func (p *pool) condemn(w *worker, c *call) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.shown.current != c {
		return false
	}
	p.transition(w, eventKill)
	return true
}

// final waits for the final frame of a call that has ended already.
func (p *pool) final(w *worker, c *call) (*Result, error) {
	for {
		select {
		case f := <-c.frames:
			if f.Type != ipc.Chunk {
				return p.outcome(w, c, f)
			}
		case e := <-c.ended:
			e.Tool, e.Call = c.tool, c.id
			return e.result()
		}
	}
}

// timedOut ends a call whose deadline has passed: bluntly, by its worker's death, since nothing else proves that user
// code runs no longer. The error waits for that proof and carries the stack.
func (p *pool) timedOut(w *worker, c *call, req *Request) (*Result, error) {
	if !p.condemn(w, c) {
		return p.final(w, c)
	}
	w.order(endOrder{stage: endKill, why: "deadline of a call to " + strconv.Quote(c.tool) + " passed", dump: true})
	p.countError()
	e := &Error{Reason: CallTimeout, Pool: p.cfg.Name, Worker: w.id, Tool: c.tool, Call: c.id, MayHaveRun: true,
		Message: fmt.Sprintf("call to %q did not end within %s; its worker %s was killed and is being replaced", c.tool, req.Timeout, w.id)}
	patience := time.NewTimer(dumpLimit + 2*killPatience)
	defer patience.Stop()
	for {
		select {
		case died := <-c.ended:
			e.PostMortem, e.Traceback = died.PostMortem, died.Traceback
			return nil, e
		case <-c.frames: // an answer after the deadline: the worker is condemned all the same
		case <-patience.C:
			return nil, e
		}
	}
}

// abandoned ends a call whose client is gone.
func (p *pool) abandoned(w *worker, c *call) (*Result, error) {
	if !p.condemn(w, c) {
		return p.final(w, c)
	}
	w.order(endOrder{stage: endKill, why: "client of the running call went away"})
	p.countError()
	return nil, &Error{Reason: CallCancelled, Pool: p.cfg.Name, Worker: w.id, Tool: c.tool, Call: c.id, MayHaveRun: true,
		Message: fmt.Sprintf("client of the call to %q went away; worker %s was killed and is being replaced", c.tool, w.id)}
}

// creditor gives a stream's credit back in batches.
type creditor struct {
	worker        *worker
	call          uint64
	chunks, bytes int
}

func (c *creditor) consumed(f *ipc.Frame) {
	c.chunks++
	c.bytes += f.Size()
	if c.chunks < streamChunks/2 && c.bytes < streamBytes/4 {
		return
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, `{"chunks":%d,"bytes":%d}`, c.chunks, c.bytes)
	// A cut link shows itself to the reader; there is nothing to do about it here.
	_ = c.worker.link.sendControl(&ipc.Frame{Type: ipc.Credit, Call: c.call, JSON: text.Bytes()})
	c.chunks, c.bytes = 0, 0
}
