package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
)

// pool is one adapter's workers: a loop that keeps the right number of them alive, and, under mu, the dispatch of calls
// to them. Calls never pass the loop: they meet their worker under the lock, and its answer comes from its own reader.
type pool struct {
	name     string
	agent    *Agent
	log      *slog.Logger
	settings atomic.Pointer[poolSettings]

	mu       sync.Mutex // guards the following, and every worker's shown
	phase    poolPhase
	workers  map[string]*worker
	idle     []*worker // ready, no call, longest idle first
	queue    []*waiter
	desired  int  // how many workers there should be
	drained  bool // an administrator has stopped the intake
	tools    map[string]Tool
	failure  *Error // why nobody can start; set while phase is poolFailed
	launcher *launcher
	lastExit map[int]string // how the previous worker of an index ended
	calls    uint64
	errors   uint64
	rejected uint64

	ended    chan struct{} // closed when run has returned
	wake     chan struct{} // capacity 1: something changed, plan again
	answered atomic.Int64  // monotonic ns of the loop's last turn, for the beat
	loop     poolLoop      // owned by run
	changed  chan struct{} // closed and replaced whenever phase or tools change; guarded by mu
}

// poolPhase is the pool's state as clients see it.
type poolPhase string

const (
	poolStarting poolPhase = "starting" // nobody has served yet
	poolReady    poolPhase = "ready"    // at target
	poolDegraded poolPhase = "degraded" // serves below target
	poolFailed   poolPhase = "failed"   // nobody serves and nobody can start; probing
	poolDraining poolPhase = "draining" // no new calls
	poolStopped  poolPhase = "stopped"  // every worker and launcher is gone
)

// poolSettings is what a pool is configured with; a roll replaces it as a whole. Each worker keeps those that it was started with.
type poolSettings struct {
	PoolConfig
	py interpreter
}

// cfg is the settings that new workers and new calls get.
func (p *pool) cfg() *poolSettings { return p.settings.Load() }

func newPool(cfg PoolConfig, a *Agent, py interpreter) *pool {
	p := &pool{name: cfg.Name, agent: a, log: a.log.With("pool", cfg.Name), desired: cfg.Workers, phase: poolStarting,
		workers: map[string]*worker{}, tools: map[string]Tool{}, lastExit: map[int]string{},
		wake: make(chan struct{}, 1), ended: make(chan struct{}), changed: make(chan struct{}), loop: poolLoop{probe: probeInterval}}
	p.settings.Store(&poolSettings{cfg, py})
	return p
}

// poke makes the loop plan again; it never blocks.
func (p *pool) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

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

func (p *pool) countError() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.errors++
}

// setPhase is the one writer of phase; p.mu is held. A failed pool's queue fails with it, at once.
func (p *pool) setPhase(phase poolPhase, why *Error) {
	if phase == poolFailed {
		p.failure = why
		for _, wt := range p.queue {
			wt.failed <- p.refusalFor(why)
		}
		p.queue = nil
	}
	if phase == p.phase {
		return
	}
	fields := []slog.Attr{slog.String("from", string(p.phase)), slog.String("to", string(phase))}
	if phase == poolFailed {
		fields = append(fields, slog.String("reason", why.Message))
	}
	p.emit(poolState, fields...)
	p.phase = phase
	p.announce()
	p.agent.healthChanged()
}

func (p *pool) refusalFor(why *Error) *Error {
	e := *why
	e.Reason, e.Pool, e.RetryAfter = PoolFailed, p.name, p.loop.probe
	return &e
}

// transition is the one writer of a worker's state; p.mu is held. What the table does not know changes nothing and is
// logged as a fault of ours.
func (p *pool) transition(w *worker, event workerEventKind) {
	next, err := w.shown.state.next(event)
	if err != nil {
		p.log.Error("worker machine", "worker", w.id, "cause", err)
		return
	}
	w.shown.state = next
}

// ready is called by a worker's loop when its first ping is answered.
func (p *pool) ready(w *worker) {
	p.mu.Lock()
	w.shown.doing, w.shown.readyAt = "", time.Now()
	p.transition(w, eventReady)
	if w.shown.state == stateReady {
		p.offer(w)
	}
	p.mu.Unlock()
	w.emit(workerReady, slog.Int("pid", w.process.pid), seconds("after_s", time.Since(w.born)))
	p.poke()
}

// hold takes a worker out of dispatch while it is held or blocked; welcome puts it back.
func (p *pool) hold(w *worker) {
	p.mu.Lock()
	p.withdraw(w)
	p.transition(w, eventHold)
	p.mu.Unlock()
	p.poke()
}

func (p *pool) welcome(w *worker) {
	p.mu.Lock()
	p.transition(w, eventWelcome)
	if w.shown.state == stateReady {
		if w.shown.current != nil {
			p.transition(w, eventCallBegan)
		} else {
			p.offer(w)
		}
	}
	p.mu.Unlock()
	p.poke()
}

// markEnding takes a worker out of dispatch for good: draining while its call may end, stopping when it may not.
func (p *pool) markEnding(w *worker, stage endStage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.withdraw(w)
	w.shown.condemned = stage >= endKill
	if stage > endDrain {
		p.transition(w, eventKill)
	} else {
		p.transition(w, eventDrain)
	}
}

// exited is called when a worker's process is dead and its last words are heard: its call fails with the post-mortem.
func (p *pool) exited(w *worker, pm *PostMortem, failure *Error) {
	p.mu.Lock()
	p.withdraw(w)
	c := w.shown.current
	if c != nil && c.ticket.place.worker == w.id { // else it was not sent, and is tried elsewhere
		c.ticket.place.answered = true
	}
	w.shown.current, w.shown.exited = nil, true
	p.tellDrain()
	starting := w.shown.readyAt.IsZero()
	p.transition(w, eventExited)
	if pm != nil {
		p.lastExit[w.index] = pm.Cause()
	}
	p.mu.Unlock()
	if starting && failure == nil && pm != nil && !w.life.ordered {
		failure = w.died(pm)
	}
	if pm != nil {
		if c != nil {
			pm.Call, pm.Tool, w.life.lastCall = c.id, c.tool, c.id
		}
		w.emitExited(pm, c)
		if c != nil {
			c.ended <- w.died(pm)
		}
	}
	p.loop.report(exitReport{worker: w, failure: failure, starting: starting,
		ordered: failure == nil && (w.life.ordered || w.life.stage != notEnding)})
	p.poke()
}

func (p *pool) showProcess(w *worker) {
	p.mu.Lock()
	w.shown.pid, w.shown.keeper = w.process.pid, w.keeper.pid
	p.mu.Unlock()
	w.emit(workerStarted, slog.Int("pid", w.process.pid), slog.Int("keeper_pid", w.keeper.pid), slog.Int("generation", w.generation))
}

func (p *pool) showDoing(w *worker, doing string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.shown.doing = doing
}

func (p *pool) showHeartbeat(w *worker, status HeartbeatStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.shown.heartbeat = status
}

func (p *pool) learnTools(tools []Tool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.tools)
	for _, t := range tools {
		t.Pool = p.name
		p.tools[t.Name] = t
	}
	p.announce()
}

// sink is where the lines of one process go.
func (p *pool) sink(process string) outputSink {
	return func(stream string, call uint64, line string) {
		p.agent.lines.publish(outputLine{p.name, process, stream, call, line})
		p.agent.output(p.name, process, stream, call, line)
	}
}

// asError gives any error a reason.
func asError(err error, pool string) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Reason: PoolFailed, Pool: pool, Message: err.Error()}
}
