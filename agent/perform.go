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

// perform runs a call on the worker that acquire gave it, until its one outcome.
func (p *pool) perform(ctx context.Context, w *worker, c *call, req *Request, deadline time.Time, chunk func(*Value) error) (*Result, error) {
	if err := w.request(ctx, c, req, deadline); err != nil {
		// Part of a frame may be out, so the worker must end whatever has become of the call.
		kill := endOrder{stage: endKill, why: "cannot write the request: " + err.Error()}
		switch {
		case !time.Now().Before(deadline):
			defer w.order(kill)
			return p.timedOut(w, c, req)
		case ctx.Err() != nil:
			defer w.order(kill)
			return p.abandoned(w, c, req)
		}
		w.order(kill)
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	if chunk != nil {
		overdue := time.AfterFunc(time.Until(deadline), func() { p.overdue(w, c) })
		defer overdue.Stop()
	}
	credit := creditor{worker: w, call: c.id}
	for {
		select {
		case f := <-c.frames:
			if f.Type == ipc.Chunk {
				if err := chunk(&Value{JSON: f.JSON, Parts: f.Parts}); err != nil {
					return p.abandoned(w, c, req)
				}
				credit.consumed(f)
				continue
			}
			return p.outcome(w, c, f)
		case e := <-c.ended:
			return p.afterDeath(w, c, req, e, chunk)
		case <-timer.C:
			return p.timedOut(w, c, req)
		case <-ctx.Done():
			return p.abandoned(w, c, req)
		}
	}
}

// afterDeath is the outcome of a call whose worker has died: what was complete in the socket before counts, chunks and
// result, and else the death.
func (p *pool) afterDeath(w *worker, c *call, req *Request, died *Error, chunk func(*Value) error) (*Result, error) {
	for !c.overdue.Load() {
		select {
		case f := <-c.frames:
			if f.Type != ipc.Chunk {
				return p.outcome(w, c, f)
			}
			if err := chunk(&Value{JSON: f.JSON, Parts: f.Parts}); err != nil {
				p.countError()
				return nil, p.cancelled(w, c)
			}
			continue
		default:
		}
		died.Tool, died.Call = c.tool, c.id
		p.countError()
		return nil, died
	}
	p.countError()
	e := p.late(w, c, req)
	e.PostMortem, e.Traceback = died.PostMortem, died.Traceback
	return nil, e
}

// overdue ends the worker of a stream at the call's deadline, also while the stream's client takes no chunk: a client
// that stands still must not hold a worker.
func (p *pool) overdue(w *worker, c *call) {
	c.overdue.Store(true)
	if p.condemn(w, c) {
		w.order(endOrder{stage: endKill, why: deadlinePassed(c), dump: true})
	}
}

func deadlinePassed(c *call) string {
	return "deadline of a call to " + strconv.Quote(c.tool) + " passed"
}

// request writes the REQUEST frame. A large one gets the call's deadline and its client's patience, as a worker that
// stopped would block it.
func (w *worker) request(ctx context.Context, c *call, req *Request, deadline time.Time) error {
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
		ended := make(chan struct{})
		unbind := context.AfterFunc(ctx, func() { _ = w.link.data.SetWriteDeadline(time.Now()); close(ended) })
		defer func() {
			if !unbind() {
				<-ended // or its deadline would come after our reset
			}
			_ = w.link.data.SetWriteDeadline(time.Time{})
		}()
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
func (p *pool) final(w *worker, c *call, req *Request) (*Result, error) {
	for {
		select {
		case f := <-c.frames:
			if f.Type != ipc.Chunk {
				return p.outcome(w, c, f)
			}
		case e := <-c.ended:
			return p.afterDeath(w, c, req, e, func(*Value) error { return nil })
		}
	}
}

// timedOut ends a call whose deadline has passed: bluntly, by its worker's death, since nothing else proves that user
// code runs no longer. The error waits for that proof and carries the stack.
func (p *pool) timedOut(w *worker, c *call, req *Request) (*Result, error) {
	if !p.condemn(w, c) {
		return p.final(w, c, req)
	}
	w.order(endOrder{stage: endKill, why: deadlinePassed(c), dump: true})
	p.countError()
	e := p.late(w, c, req)
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

func (p *pool) late(w *worker, c *call, req *Request) *Error {
	return &Error{Reason: CallTimeout, Pool: p.cfg.Name, Worker: w.id, Tool: c.tool, Call: c.id, MayHaveRun: true,
		Message: fmt.Sprintf("call to %q did not end within %s; its worker %s was killed and is being replaced", c.tool, req.Timeout, w.id)}
}

// abandoned ends a call whose client is gone.
func (p *pool) abandoned(w *worker, c *call, req *Request) (*Result, error) {
	if !p.condemn(w, c) {
		return p.final(w, c, req)
	}
	w.order(endOrder{stage: endKill, why: "client of the running call went away"})
	p.countError()
	return nil, p.cancelled(w, c)
}

func (p *pool) cancelled(w *worker, c *call) *Error {
	return &Error{Reason: CallCancelled, Pool: p.cfg.Name, Worker: w.id, Tool: c.tool, Call: c.id, MayHaveRun: true,
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
