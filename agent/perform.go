package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
)

// errUnsent is a request that did not reach its worker whole: nothing of the call has run.
var errUnsent = errors.New("the request was not written")

const (
	// toolRetryPause is the hint of a ToolError that says it may be tried again and no time.
	toolRetryPause = time.Second
	// maxToolData is what a tool may attach to its error, in bytes of JSON: it must fit a status beside message and traceback.
	maxToolData = 4 << 10
)

// perform runs a call on the worker that acquire gave it, until its one outcome; errUnsent when there is none because
// it never began.
func (p *pool) perform(ctx context.Context, w *worker, c *call, req *Request, deadline time.Time, chunk func(*Value) error) (*Result, error) {
	if err := w.request(ctx, c, req, deadline); err != nil {
		// Part of a frame may be out, so the worker must end whatever becomes of the call.
		p.condemn(w, c)
		w.order(endOrder{stage: endKill, why: "cannot write the request: " + err.Error()})
		return nil, errUnsent
	}
	// A client that does not read holds this goroutine in chunk; the deadline ends the call in its worker all the same.
	expired := make(chan bool, 1)
	timer := time.AfterFunc(time.Until(deadline), func() { p.overrun(w, c, expired) })
	defer timer.Stop()
	credit := creditor{worker: w, call: c.id}
	for {
		select {
		case f := <-c.frames:
			if f.Type != ipc.Chunk {
				return p.outcome(w, c, f)
			}
			if err := chunk(&Value{JSON: f.JSON, Parts: f.Parts}); err != nil {
				return p.abandoned(w, c)
			}
			credit.consumed(f)
		case e := <-c.ended:
			return p.lastWords(w, c, req, e, expired, chunk)
		case condemned := <-expired:
			if !condemned {
				return p.final(w, c)
			}
			return p.timedOut(w, c, req)
		case <-ctx.Done():
			return p.abandoned(w, c)
		}
	}
}

// lastWords is the outcome of a call whose worker is dead: what was complete before the death counts.
func (p *pool) lastWords(w *worker, c *call, req *Request, e *Error, expired <-chan bool, chunk func(*Value) error) (*Result, error) {
	for len(c.frames) > 0 {
		f := <-c.frames
		if f.Type != ipc.Chunk {
			return p.outcome(w, c, f)
		}
		if chunk(&Value{JSON: f.JSON, Parts: f.Parts}) != nil {
			break
		}
	}
	p.countError()
	select {
	case condemned := <-expired:
		if condemned {
			return nil, p.timeoutError(w, c, req, e)
		}
	default:
	}
	if c.ticket.where().cancelled {
		return nil, p.cancelledRunning(w, c, e)
	}
	e.Tool, e.Call = c.tool, c.id
	return nil, e
}

// request writes the REQUEST frame. One that does not fit the socket waits for a worker that may have stopped: until the
// call's deadline, or until its client is gone.
func (w *worker) request(ctx context.Context, c *call, req *Request, deadline time.Time) error {
	args := req.Args.JSON
	if len(args) == 0 {
		args = []byte("{}")
	}
	tool, err := json.Marshal(c.tool)
	if err != nil {
		return err
	}
	text := make([]byte, 0, len(args)+len(tool)+requestEnvelope)
	text = append(text, `{"tool":`...)
	text = append(text, tool...)
	text = append(text, `,"timeout_us":`...)
	text = strconv.AppendInt(text, max(time.Until(deadline).Microseconds(), 1), 10)
	text = append(text, `,"args":`...)
	text = append(text, args...)
	text = append(text, '}')
	f := &ipc.Frame{Type: ipc.Request, Call: c.id, JSON: text, Parts: req.Args.Parts}
	return w.link.sendData(f, patience{ctx: ctx, deadline: deadline})
}

// outcome turns a final frame into the call's result or error.
func (p *pool) outcome(w *worker, c *call, f *ipc.Frame) (*Result, error) {
	if f.Type == ipc.Result {
		return &Result{Value: Value{JSON: f.JSON, Parts: f.Parts}, Call: c.id, Worker: w.id}, nil
	}
	p.countError()
	var body struct {
		Reason, Type, Message, Traceback string
		ToolReason                       string `json:"tool_reason"`
		Data                             json.RawMessage
		Retryable                        bool
	}
	if err := json.Unmarshal(f.JSON, &body); err != nil {
		return nil, failf(Internal, "cannot read the error of tool %q: %v", c.tool, err)
	}
	e := &Error{Reason: Reason(body.Reason), Pool: p.name, Worker: w.id, Tool: c.tool, Call: c.id, MayHaveRun: true,
		Type: body.Type, Traceback: body.Traceback, Message: body.Message}
	if body.Retryable {
		e.RetryAfter = toolRetryPause
	}
	switch e.Reason {
	case BadArguments:
		e.MayHaveRun = false
	case ToolRaised:
		e.Message = fmt.Sprintf("tool %q raised %s: %s", c.tool, body.Type, body.Message)
		e.ToolReason, e.Data = body.ToolReason, body.Data
		if len(e.Data) > maxToolData {
			e.Message += fmt.Sprintf(" (its data of %d bytes is over %d and left out)", len(e.Data), maxToolData)
			e.Data = nil
		}
	case PayloadTooLarge, UnknownTool:
	default:
		e.Reason, e.Message = Internal, fmt.Sprintf("worker %s answered with the reason %q, which is none of its own", w.id, body.Reason)
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
	w.shown.condemned = true
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

// overrun ends a call whose deadline has passed: bluntly, by its worker's death, since nothing else proves that user code
// runs no longer. It tells whether it did, or the call had just ended, before anybody can see that death.
func (p *pool) overrun(w *worker, c *call, told chan<- bool) {
	condemned := p.condemn(w, c)
	told <- condemned
	if condemned {
		w.order(endOrder{stage: endKill, why: "deadline of a call to " + strconv.Quote(c.tool) + " passed", dump: true})
	}
}

// timedOut is the outcome of a call that overran. It waits for the proof of its worker's death, which carries the stack.
func (p *pool) timedOut(w *worker, c *call, req *Request) (*Result, error) {
	p.countError()
	patience := time.NewTimer(dumpLimit + killPatience) // shorter than what client libraries wait beyond the deadline
	defer patience.Stop()
	for {
		select {
		case died := <-c.ended:
			return nil, p.timeoutError(w, c, req, died)
		case <-c.frames: // an answer after the deadline: the worker is condemned all the same
		case <-patience.C:
			return nil, p.timeoutError(w, c, req, p.outlivesSoFar(w))
		}
	}
}

// timeoutError is CALL_TIMEOUT; died, if known, is how the worker ended for it.
func (p *pool) timeoutError(w *worker, c *call, req *Request, died *Error) *Error {
	e := &Error{Reason: CallTimeout, Pool: p.name, Worker: w.id, Tool: c.tool, Call: c.id, MayHaveRun: true,
		Message: fmt.Sprintf("call to %q did not end within %s; its worker %s was killed and is being replaced", c.tool, req.Timeout, w.id)}
	if died != nil {
		e.PostMortem, e.Traceback = died.PostMortem, died.Traceback
		if died.PostMortem.Unkillable != "" {
			e.Message = fmt.Sprintf("call to %q did not end within %s; its worker %s outlives SIGKILL (%s), another takes its place",
				c.tool, req.Timeout, w.id, died.PostMortem.Unkillable)
		}
	}
	return e
}

// outlivesSoFar is what can be told of a condemned worker before the verdict: where the kernel holds it.
func (p *pool) outlivesSoFar(w *worker) *Error {
	p.mu.Lock()
	pid, exited, ended := w.shown.pid, w.shown.exited, p.workers[w.id] != w
	p.mu.Unlock()
	if exited || ended || !killed(pid) {
		return nil
	}
	return &Error{PostMortem: &PostMortem{Unkillable: lookAt(pid, 0).String(), Uptime: time.Since(w.born).Round(time.Millisecond).String()}}
}

// abandoned ends a call whose client is gone.
func (p *pool) abandoned(w *worker, c *call) (*Result, error) {
	if !p.condemn(w, c) {
		return p.final(w, c)
	}
	w.order(endOrder{stage: endKill, why: "client of the running call went away"})
	p.countError()
	return nil, &Error{Reason: CallCancelled, Pool: p.name, Worker: w.id, Tool: c.tool, Call: c.id, MayHaveRun: true,
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
