package agent

import (
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// roll replaces workers by successors: each predecessor ends only when its successor is ready, and the first successor that
// cannot start ends the roll with the predecessors serving on. The pool's loop owns it.
type roll struct {
	only     *worker             // the one worker to replace; nil: all of the pool
	single   bool                // it was for one worker, which has its successor
	settings *poolSettings       // what the successors get
	launcher *launcher           // where they come from
	own      bool                // launcher was started for this roll and is not the pool's yet
	pairs    map[*worker]*worker // starting successors, and whom each replaces (nil for nobody)
	vacancy  *vacancy            // the slot that was emptied for the next successor, nil for none
	emptied  bool                // a predecessor has ended, and its successor is not ready yet
	done     []string
	failure  *Error
	reply    chan<- rollResult // capacity 1
}

// rollResult is what the caller of a roll hears.
type rollResult struct {
	workers []string
	err     *Error
}

// poolOrder is an administrator's order to the pool's loop.
type poolOrder struct {
	worker   string        // replace this worker; empty: all
	settings *poolSettings // with these; nil: as they are
	reply    chan<- rollResult
}

// order hands an order to the loop.
func (p *pool) order(o poolOrder) {
	p.loop.mu.Lock()
	p.loop.orders = append(p.loop.orders, o)
	p.loop.mu.Unlock()
	p.poke()
}

// takeOrders begins the roll that was ordered; a second one is refused while the first goes on.
func (p *pool) takeOrders(stop stopRequest) {
	p.loop.mu.Lock()
	orders := p.loop.orders
	p.loop.orders = nil
	p.loop.mu.Unlock()
	for _, o := range orders {
		switch {
		case stop != stopNot:
			o.reply <- rollResult{err: failf(Draining, "pool %q is being stopped", p.name)}
		case p.loop.roll != nil:
			e := failf(Draining, "pool %q is being restarted already; wait until that has ended", p.name)
			e.RetryAfter = time.Second
			o.reply <- rollResult{err: e}
		default:
			p.beginRoll(o)
		}
	}
}

func (p *pool) beginRoll(o poolOrder) {
	r := &roll{settings: o.settings, pairs: map[*worker]*worker{}, reply: o.reply}
	if r.settings == nil {
		r.settings = p.cfg()
	}
	if o.worker != "" {
		p.mu.Lock()
		r.only = p.workers[o.worker]
		p.mu.Unlock()
		r.launcher = p.launcher
		if r.only == nil || r.launcher == nil {
			o.reply <- rollResult{err: &Error{Reason: UnknownWorker, Pool: p.name, Worker: o.worker, Message: fmt.Sprintf("worker %q is gone, or its pool has no launcher now; `pitboss status` shows both", o.worker)}}
			return
		}
		p.loop.roll = r
		return
	}
	l, err := p.newLauncher(r.settings)
	if err != nil {
		o.reply <- rollResult{err: asError(err, p.name)}
		return
	}
	r.launcher, r.own = l, true
	p.loop.roll = r
}

// turnRoll takes the roll as far as it can go now. What it returns tells the end of it, nil while it goes on; it is called
// when the pool's phase shows what the roll has done. next is when to go on at the latest.
func (p *pool) turnRoll(now time.Time) (tell func(), next time.Time) {
	r := p.loop.roll
	if r == nil {
		return nil, next
	}
	select {
	case <-r.launcher.dead:
		r.failure = orError(r.failure, failf(PoolFailed, "launcher of pool %q died during the restart", p.name))
	default:
	}
	select {
	case <-r.launcher.failed: // and why
		r.failure = r.launcher.failure
	default:
	}
	if r.failure != nil {
		return p.abortRoll(r), next
	}
	select {
	case <-r.launcher.ready:
	default:
		return nil, next
	}
	if p.promote(r); r.failure != nil {
		return p.abortRoll(r), next
	}
	if r.settings.gated() {
		next = p.startAfterRelease(r, now)
	} else {
		p.startSuccessors(r)
	}
	if r.failure != nil {
		return p.abortRoll(r), next
	}
	if len(r.pairs) == 0 && r.vacancy == nil {
		p.loop.roll = nil
		slices.Sort(r.done)
		p.emit(poolRestarted, slog.Int("workers", len(r.done)))
		return func() { r.reply <- rollResult{workers: r.done} }, next
	}
	return nil, next
}

// promote ends the predecessor of each successor that is ready. The first of them proves the new settings: from then on they
// are the pool's.
func (p *pool) promote(r *roll) {
	for successor, old := range r.pairs {
		p.mu.Lock()
		state := successor.shown.state
		p.mu.Unlock()
		switch state {
		case stateReady, stateBusy:
		case stateStarting, stateHeld:
			continue
		default:
			r.failure = orError(r.failure, failf(PoolFailed, "worker %s ended before it could take over", successor.id))
			continue
		}
		delete(r.pairs, successor)
		r.emptied = false
		r.done = append(r.done, successor.id)
		if r.own {
			r.own = false
			p.adopt(r)
		}
		if old != nil {
			p.replaceWorker(old)
		}
	}
}

// adopt makes the roll's launcher and settings the pool's; the old launcher ends after its last keeper.
func (p *pool) adopt(r *roll) {
	old := p.launcher
	p.settings.Store(r.settings)
	p.setLauncher(r.launcher)
	p.loop.launch.failures, p.loop.launch.failure = 0, nil
	if old != nil {
		old.stop()
	}
}

// replaceWorker ends a worker whose successor is ready: after its call, if it runs one.
func (p *pool) replaceWorker(w *worker) {
	p.mu.Lock()
	state, busy := w.shown.state, w.shown.current != nil
	p.withdraw(w)
	if state == stateReady || state == stateBusy {
		p.transition(w, eventDrain)
	}
	p.mu.Unlock()
	switch {
	case state == stateHeld || state == stateStarting:
		w.order(endOrder{stage: endStop, grace: w.cfg.Timeouts.Kill, why: "replaced by a restart"})
	case busy:
		w.order(endOrder{stage: endDrain, grace: w.cfg.Timeouts.Drain})
	case state == stateReady || state == stateDraining:
		w.order(endOrder{stage: endDrain, grace: w.cfg.Timeouts.Kill})
	}
}

// startSuccessors starts as many as may start at once, in the order of the indexes.
func (p *pool) startSuccessors(r *roll) {
	if r.only != nil {
		r.pairs[p.startWorker(r.settings, r.launcher, r.only.index)] = r.only
		r.only, r.single = nil, true
		return
	}
	if r.single {
		return
	}
	for index, old := range p.predecessors(r) {
		if old.replaced || r.paired(index) {
			continue
		}
		if len(r.pairs) >= r.settings.StartParallel {
			return
		}
		r.pairs[p.startWorker(r.settings, r.launcher, index)] = old.worker
	}
}

// paired says whether an index has a successor on its way.
func (r *roll) paired(index int) bool {
	for successor := range r.pairs {
		if successor.index == index {
			return true
		}
	}
	return false
}

// predecessor is who serves at an index now, nil for nobody; replaced if that is the roll's doing already.
type predecessor struct {
	worker   *worker
	replaced bool
}

func (p *pool) predecessors(r *roll) []predecessor {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := make([]predecessor, p.desired)
	for _, w := range p.workers {
		switch w.shown.state {
		case stateStarting, stateReady, stateBusy, stateHeld:
			if w.index < len(old) {
				old[w.index].replaced = old[w.index].replaced || w.launcher == r.launcher
				if w.launcher != r.launcher {
					old[w.index].worker = w
				}
			}
		}
	}
	return old
}

// abortRoll ends what the roll has started; who served goes on serving.
func (p *pool) abortRoll(r *roll) (tell func()) {
	for successor := range r.pairs {
		successor.order(endOrder{stage: endStop, grace: successor.cfg.Timeouts.Kill, why: "the restart failed"})
	}
	if r.own {
		r.launcher.discard()
	}
	p.loop.roll = nil
	e := *r.failure
	e.Reason, e.Pool = PoolFailed, p.name
	e.Message = fmt.Sprintf("cannot restart pool %q: %s; %s", p.name, e.Message, r.remains())
	p.emit(poolRestartFailed, slog.String("cause", r.failure.Message), slog.Int("workers", len(r.done)))
	return func() { r.reply <- rollResult{workers: r.done, err: &e} }
}

func (r *roll) remains() string {
	if r.emptied {
		return fmt.Sprintf("%d workers were replaced before, one had ended for its successor and starts again with the settings of before, the others serve on", len(r.done))
	}
	if len(r.done) == 0 {
		return "nothing was replaced, the old workers serve on"
	}
	return fmt.Sprintf("%d workers were replaced before, the others serve on", len(r.done))
}

// rollEnded takes the report of a successor that could not start; it is the roll's failure and not its slot's.
func (p *pool) rollEnded(e exitReport) bool {
	r := p.loop.roll
	if r == nil {
		return false
	}
	if _, ours := r.pairs[e.worker]; !ours || !e.starting {
		return false
	}
	delete(r.pairs, e.worker)
	if e.failure != nil {
		r.failure = orError(r.failure, e.failure)
	}
	return e.failure != nil
}

func orError(e, other *Error) *Error {
	if e != nil {
		return e
	}
	return other
}

// rolling says whether an index has a successor on its way: then two workers of it are no accident.
func (p *pool) rolling(index int) bool { return p.loop.roll != nil && p.loop.roll.paired(index) }

// cancelRoll ends the roll because the pool is being stopped; its successors stop with all others.
func (p *pool) cancelRoll() {
	if r := p.loop.roll; r != nil {
		p.loop.roll = nil
		r.reply <- rollResult{workers: r.done, err: failf(Draining, "pool %q is being stopped", p.name)}
	}
}
