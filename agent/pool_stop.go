package agent

import (
	"slices"
	"time"
)

// launcherPatience is how long a launcher may take to end after its last keeper.
const launcherPatience = 5 * time.Second

// turnStopping takes the pool down: intake ends, queued and running calls go on (stopDrain) or not (stopNow), then the
// workers, then the launchers.
func (p *pool) turnStopping(now time.Time, how stopRequest) (next time.Time, stopped bool) {
	if p.loop.drainBy.IsZero() {
		p.loop.drainBy = now.Add(p.cfg().Timeouts.Drain)
	}
	if !now.Before(p.loop.drainBy) {
		how = stopNow
	}
	p.mu.Lock()
	p.setPhase(poolDraining, nil)
	if len(p.workers) == 0 {
		how = stopNow // nobody is left for those who wait, and nobody comes any more
	}
	queued := len(p.queue)
	if how == stopNow {
		p.refuseQueue()
		queued = 0
	}
	var left []*worker
	for _, w := range p.workers {
		left = append(left, w)
	}
	p.mu.Unlock()
	p.leaveUnkillable()
	for _, w := range left {
		p.stopWorker(w, how, queued > 0)
	}
	if len(left) > 0 {
		if queued > 0 {
			return now.Add(50 * time.Millisecond), false
		}
		if how == stopNow {
			return time.Time{}, false
		}
		return p.loop.drainBy, false
	}
	return p.stopLaunchers(now)
}

// refuseQueue tells everybody who waits that the call was never started; p.mu is held.
func (p *pool) refuseQueue() {
	for _, wt := range p.queue {
		p.rejected++
		wt.failed <- p.refusal()
	}
	p.queue = nil
}

// stopWorker gives one worker the order that fits. While calls wait in the queue of a drain, those that can serve them stay.
func (p *pool) stopWorker(w *worker, how stopRequest, queued bool) {
	p.mu.Lock()
	state, busy, ordered := w.shown.state, w.shown.current != nil, w.shown.stop
	if how <= ordered || (queued && (state == stateStarting || state == stateReady || state == stateBusy) && how == stopDrain) {
		p.mu.Unlock()
		return
	}
	w.shown.stop = how
	p.mu.Unlock()
	grace := p.cfg().Timeouts.Kill
	switch {
	case how == stopNow, state == stateStarting, state == stateHeld:
		w.order(endOrder{stage: endStop, grace: grace, why: "the agent stops"})
	case busy:
		w.order(endOrder{stage: endDrain, grace: time.Until(p.loop.drainBy)})
	default: // an idle worker only has its teardown to do
		w.order(endOrder{stage: endDrain, grace: grace})
	}
}

// stopLaunchers ends every generation and waits for its death.
func (p *pool) stopLaunchers(now time.Time) (next time.Time, stopped bool) {
	if !p.loop.stopSent {
		p.loop.stopSent, p.loop.stopBy = true, now.Add(launcherPatience)
		for _, l := range p.loop.running {
			l.stop()
		}
	}
	for _, l := range p.loop.running {
		switch {
		case l.isDead():
		case l.killedAt.Load() == 0 && !p.hasLeft() && now.Before(p.loop.stopBy):
			return p.loop.stopBy, false
		case l.killedAt.Load() == 0:
			if !p.hasLeft() { // else it waits for a keeper that waits for who was left
				l.tellKill(l.process.pid, "it does not end at the stop")
			}
			l.kill()
			return now.Add(unkillableAfter), false
		default:
			s := lookAt(l.process.pid, 0)
			if wait := time.Duration(l.killedAt.Load()) + unkillableAfter - p.agent.uptime(); wait > 0 || !s.held() || !p.agent.draining.Load() {
				return now.Add(max(wait, lookAgain)), false
			}
			p.agent.leaveBehind(s)
			l.leave()
		}
	}
	p.loop.running = slices.DeleteFunc(p.loop.running, func(l *launcher) bool { return !l.isDead() })
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setPhase(poolStopped, nil)
	return time.Time{}, true
}
