package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
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
	left     bool              // somebody who outlives KILL was left behind; set while the agent stops
	lastExit map[int]string    // how the previous worker of an index ended
	waits    map[int]waitShown // what an index waits for before its next start
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

// hash names the settings of a worker: equal ones have equal hashes, and different ones different ones for all that matters.
func (s *poolSettings) hash() string {
	cfg := s.PoolConfig
	cfg.Workers = 0 // how many others there are makes no worker different
	text, err := json.Marshal(cfg)
	if err != nil {
		return "" // cannot be: it has only what YAML can hold
	}
	sum := sha256.Sum256(append(text, s.py.path...))
	return hex.EncodeToString(sum[:6])
}

// cfg is the settings that new workers and new calls get.
func (p *pool) cfg() *poolSettings { return p.settings.Load() }

func newPool(cfg PoolConfig, a *Agent, py interpreter) *pool {
	p := &pool{name: cfg.Name, agent: a, log: a.log.With("pool", cfg.Name), desired: cfg.Workers, phase: poolStarting,
		workers: map[string]*worker{}, tools: map[string]Tool{}, lastExit: map[int]string{}, waits: map[int]waitShown{},
		wake: make(chan struct{}, 1), ended: make(chan struct{}), changed: make(chan struct{}), loop: poolLoop{probe: probeInterval, looking: map[int]chan struct{}{}}}
	p.loop.looks, p.loop.endLooks = context.WithCancel(context.Background())
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
	w.shown.doing, w.shown.readyAt = progress{}, time.Now()
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
	w.shown.condemned = w.shown.condemned || stage >= endKill
	if stage > endDrain {
		p.transition(w, eventKill)
	} else {
		p.transition(w, eventDrain)
	}
}

// exited is called when a worker's process is dead and its last words are heard: its call fails with the post-mortem.
func (p *pool) exited(w *worker, pm *PostMortem, failure *Error) {
	p.mu.Lock()
	c := p.takeCall(w)
	w.shown.exited = true
	starting := w.shown.readyAt.IsZero()
	p.transition(w, eventExited)
	if pm != nil {
		if !p.served(w) { // a successor that could not start says nothing of who serves on
			p.lastExit[w.index] = pm.Cause()
		}
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
	if !w.life.unkillable { // else it was reported as that
		p.loop.report(exitReport{worker: w, failure: failure, starting: starting,
			ordered: failure == nil && (w.life.ordered || w.life.stage != notEnding)})
	}
	p.poke()
}

// takeCall takes a worker that answers no more out of dispatch, and its call from it; p.mu is held.
func (p *pool) takeCall(w *worker) *call {
	p.withdraw(w)
	c := w.shown.current
	if c != nil && c.ticket.place.worker == w.id { // else it was not sent, and is tried elsewhere
		c.ticket.place.answered = true
	}
	w.shown.current = nil
	p.tellDrain()
	return c
}

func (p *pool) showProcess(w *worker) {
	p.mu.Lock()
	w.shown.pid, w.shown.keeper = w.process.pid, w.keeper.pid
	p.mu.Unlock()
	fields := []slog.Attr{slog.Int("pid", w.process.pid), slog.Int("keeper_pid", w.keeper.pid), slog.Int("generation", w.generation), slog.String("config", w.cfg.hash())}
	if start, ok := startTime(w.process.pid); ok {
		fields = append(fields, slog.Int64("start_time", int64(start)))
	}
	w.emit(workerStarted, fields...)
}

func (p *pool) showDoing(w *worker, doing string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.shown.doing = progress{doing, time.Now()}
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

// served says whether another worker of the same index is there and serves; p.mu is held.
func (p *pool) served(w *worker) bool {
	for _, other := range p.workers {
		if other != w && other.index == w.index && (other.shown.state == stateReady || other.shown.state == stateBusy) && w.shown.readyAt.IsZero() {
			return true
		}
	}
	return false
}
