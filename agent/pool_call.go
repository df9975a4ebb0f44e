package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
)

// call runs one request to its outcome. chunk is nil for a unary call.
func (p *pool) call(ctx context.Context, req *Request, chunk func(*Value) error) (*Result, error) {
	if req.Timeout <= 0 {
		req.Timeout = p.cfg().Timeouts.Call
		if chunk != nil {
			req.Timeout = p.cfg().Timeouts.Stream
		}
	}
	came := time.Now()
	t := &ticket{id: p.agent.nextCall.Add(1), pool: p, tool: req.Tool, came: came, deadline: came.Add(req.Timeout)}
	p.agent.outcomes.begin(t)
	result, err := p.carry(ctx, t, req, chunk)
	p.agent.outcomes.end(t, t.where(), err)
	return result, err
}

// carry takes a call through its tries to its outcome.
func (p *pool) carry(ctx context.Context, t *ticket, req *Request, chunk func(*Value) error) (*Result, error) {
	if len(req.Args.Parts) > ipc.MaxParts {
		return nil, p.tooLarge(t, "arguments with %d binary parts are over the limit of %d; join some of them", len(req.Args.Parts), ipc.MaxParts)
	}
	if size := (&Value{JSON: req.Args.JSON, Parts: req.Args.Parts}).size(); size+requestEnvelope+6*len(req.Tool) > int(p.cfg().Limits.Payload) {
		return nil, p.tooLarge(t, "arguments of %d bytes are over the limit of %d; raise limits.payload of pool %q", size, p.cfg().Limits.Payload, p.name)
	}
	for {
		result, err := p.try(ctx, t, req, chunk)
		if err != errUnsent {
			return result, err
		}
		// Nothing of it has run, so another worker may have it.
		e := &Error{Pool: p.name, Tool: req.Tool, Call: t.id}
		switch {
		case p.unsent(t):
			e = p.cancelled(t)
		case ctx.Err() != nil:
			e.Reason, e.Message = CallCancelled, fmt.Sprintf("client of the call to %q went away while its request was written; it never ran", req.Tool)
		case !time.Now().Before(t.deadline):
			e.Reason, e.Message = CallTimeout, fmt.Sprintf("call to %q could not be handed to a worker within %s: the worker did not read it; it never ran", req.Tool, req.Timeout)
		default:
			continue
		}
		p.countError()
		return nil, e
	}
}

func (p *pool) tooLarge(t *ticket, format string, args ...any) *Error {
	e := failf(PayloadTooLarge, format, args...)
	e.Pool, e.Tool, e.Call = p.name, t.tool, t.id
	return e
}

// try gives a call to one worker; errUnsent if that worker did not get it.
func (p *pool) try(ctx context.Context, t *ticket, req *Request, chunk func(*Value) error) (*Result, error) {
	c := newCall(t, chunk != nil)
	w, e := p.acquire(ctx, c, t.deadline)
	if e != nil {
		e.Pool, e.Tool, e.Call = p.name, c.tool, c.id
		return nil, e
	}
	// A call that waited for the first worker was let in before anybody knew the tools.
	if e := p.checkTool(req, chunk != nil); e != nil {
		p.giveBack(w, c)
		e.Call = c.id
		return nil, e
	}
	// In the middle of a reload it may be a worker of the settings before, which takes less.
	if size := req.Args.size() + requestEnvelope + 6*len(req.Tool); size > int(w.cfg.Limits.Payload) {
		p.giveBack(w, c)
		return nil, p.tooLarge(t, "arguments of %d bytes are over the limit of %d of worker %s; retry when the reload has ended", req.Args.size(), w.cfg.Limits.Payload, w.id)
	}
	return p.perform(ctx, w, c, req, t.deadline, chunk)
}

// unsent takes a call back from a worker that did not get it, and says whether it was cancelled meanwhile.
func (p *pool) unsent(t *ticket) (cancelled bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.place.worker, t.place.began, t.place.answered = "", time.Time{}, false
	return t.place.cancelled
}

// checkTool says why a request cannot be served by the tools of this pool; nil while they are not known.
func (p *pool) checkTool(req *Request, stream bool) *Error {
	p.mu.Lock()
	defer p.mu.Unlock()
	tool, known := p.tools[req.Tool]
	switch {
	case known && tool.Stream && !stream:
		return &Error{Reason: BadArguments, Pool: p.name, Tool: req.Tool, Message: fmt.Sprintf("tool %q is a stream tool: call it as a stream", req.Tool)}
	case known || len(p.tools) == 0:
		return nil
	}
	names := slices.Sorted(maps.Keys(p.tools))
	return &Error{Reason: UnknownTool, Pool: p.name, Tool: req.Tool,
		Message: fmt.Sprintf("pool %q has no tool %q; it has: %s%s", p.name, req.Tool, strings.Join(names, ", "), nearName(req.Tool, names))}
}

// elsewhere names another pool that has a tool, "" if none has.
func (a *Agent) elsewhere(not *pool, tool string) string {
	for _, p := range a.allPools() {
		if p == not {
			continue
		}
		p.mu.Lock()
		_, has := p.tools[tool]
		p.mu.Unlock()
		if has {
			return fmt.Sprintf("; pool %q has it: %s/%s", p.name, p.name, tool)
		}
	}
	return ""
}

// refusal says why no call may come in now, nil if it may; p.mu is held.
func (p *pool) refusal() *Error {
	switch p.phase {
	case poolFailed:
		return p.refusalFor(p.failure)
	case poolDraining, poolStopped:
		e := failf(Draining, "pool %q takes no new calls: it is %s", p.name, p.phase)
		if p.drained {
			e.Message += "; `pitboss resume` ends that"
		}
		e.RetryAfter = time.Second
		return e
	}
	return nil
}
