package agent

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// startTries is how often a worker that dies while starting is tried before its slot counts as failed.
	startTries = 3
	// probeInterval is the usual poolLoop.probe.
	probeInterval = 30 * time.Second
)

// poolLoop is the state of a pool's loop. Only run touches it, but for the two mailboxes under mu.
type poolLoop struct {
	mu       sync.Mutex // guards exits, orders, stop, answers and unproven
	exits    []exitReport
	orders   []poolOrder
	stop     stopRequest
	answers  []releaseAnswer
	unproven []*worker     // ended, and nobody has seen their trees empty
	probe    time.Duration // how often a failed slot is tried again; never changes once run has begun

	roll       *roll  // the restart that goes on
	slots      []slot // by index
	serial     int    // of the last worker, so that no id is used twice
	generation int    // of the last launcher
	launch     slot   // tries and backoff of the launcher itself
	served     bool   // the pool has been at target once
	running    []*launcher
	stopSent   bool      // the launcher was told to stop
	stopBy     time.Time // when a launcher that does not end is killed
	drainBy    time.Time // when a drain becomes a stop
	workers    sync.WaitGroup
	looking    map[int]chan struct{} // the last look at what an index needs; closed at its end
	looks      context.Context       // of every look
	endLooks   context.CancelFunc
}

// slot is the restart bookkeeping of one worker index, or of the launcher.
type slot struct {
	restarts restartBackoff
	failures int       // starts in a row that failed
	notYet   time.Time // no start before
	failure  *Error    // why the last start failed
	release  releaseGate
}

func (s *slot) failed() bool { return s.failures >= startTries || s.release.overdue }

// exitReport is a worker's end as the loop needs it.
type exitReport struct {
	worker   *worker
	failure  *Error // why it could not start
	starting bool   // it had never been ready
	ordered  bool   // we ended it
}

// stopRequest is how far the pool has been told to end.
type stopRequest int

const (
	stopNot   stopRequest = iota
	stopDrain             // running and queued calls end first
	stopNow               // the ladder at once
)

func (l *poolLoop) report(r exitReport) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.exits = append(l.exits, r)
}

// requestStop makes the pool end; it only ever grows stronger.
func (p *pool) requestStop(how stopRequest) {
	p.loop.mu.Lock()
	p.loop.stop = max(p.loop.stop, how)
	p.loop.mu.Unlock()
	p.poke()
}

// run keeps the pool at its target until it is stopped and everything of it is gone. It owns the launchers and workers
// that it starts and joins them before it returns.
func (p *pool) run() {
	p.loop.launch.restarts.jitter = rand.Float64
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-p.wake:
		case <-timer.C:
		}
		now := time.Now()
		next, stopped := p.turn(now)
		p.answered.Store(int64(p.agent.uptime()))
		if stopped {
			break
		}
		resetTimer(timer, next)
	}
	p.loop.workers.Wait()
	p.joinLooks()
	for _, l := range p.loop.running {
		l.close()
	}
	p.agent.cgroups.dropPool(p.name)
	close(p.ended)
}

// turn does everything there is to do now and says when it wants to be called again at the latest.
func (p *pool) turn(now time.Time) (next time.Time, stopped bool) {
	p.loop.mu.Lock()
	stop := p.loop.stop
	p.loop.mu.Unlock()
	p.growSlots()
	p.takeExits(now)
	p.takeAnswers(now)
	p.dropLaunchers()
	p.takeOrders(stop)
	if stop != stopNot {
		p.cancelRoll()
		return p.turnStopping(now, stop)
	}
	tell, roll := p.turnRoll(now)
	l := p.keepLauncher(now)
	next = earlier(roll, p.keepWorkers(now, l))
	p.derivePhase()
	if tell != nil {
		tell()
	}
	if l == nil {
		next = earlier(next, p.loop.launch.notYet)
	}
	return next, false
}

// earlier is the first of two times; zero is no time.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// takeExits turns reports of ended workers into backoff.
func (p *pool) takeExits(now time.Time) {
	p.loop.mu.Lock()
	exits := p.loop.exits
	p.loop.exits = nil
	p.loop.mu.Unlock()
	for _, r := range exits {
		if p.rollEnded(r) {
			continue
		}
		s := &p.loop.slots[r.worker.index]
		switch {
		case r.starting && r.failure != nil:
			s.failures++
			s.failure = r.failure
			r.worker.emit(workerStartFailed, slog.Int("try", s.failures), slog.String("cause", r.failure.Message))
			s.notYet = now.Add(s.restarts.next(now))
			if s.failed() {
				s.notYet = now.Add(p.loop.probe)
			}
		case r.starting || r.ordered:
			s.notYet = now // we ended it: no reason to wait
		default:
			s.failures = 0
			if !r.worker.shown.readyAt.IsZero() {
				s.restarts.lived(now.Sub(r.worker.shown.readyAt))
			}
			s.notYet = now.Add(s.restarts.next(now))
		}
	}
}

// keepWorkers brings every index to one active worker. A held worker gets a substitute; when it comes back the
// newest one is drained. In a pool with a release gate nobody starts beside a predecessor: not beside a held one, and not before the
// tree of a dead one is proven empty. It returns the time of the next start that has to wait.
func (p *pool) keepWorkers(now time.Time, l *launcher) (next time.Time) {
	tallies, starting, desired := p.count()
	p.mu.Lock()
	full := p.tooManyUnkillable() != nil
	p.mu.Unlock()
	for i := range tallies {
		t, s := tallies[i], &p.loop.slots[i]
		if i >= desired {
			for _, w := range t.active {
				p.replaceWorker(w)
			}
			p.endWait(i)
			continue
		}
		if len(t.active) > 1 && !p.rolling(i) { // a held worker was welcomed back
			p.retire(t.active)
		}
		if len(t.active) > 0 || t.alive > 0 || l == nil || p.vacated(i) || p.cfg().gated() && t.present > 0 {
			continue
		}
		if now.Before(s.notYet) {
			next = earlier(next, s.notYet)
			continue
		}
		if full {
			continue // a process that ends pokes the loop
		}
		if starting >= p.cfg().StartParallel {
			continue // the next worker that is ready pokes the loop
		}
		if open, again := p.turnRelease(i, p.cfg(), now); !open {
			next = earlier(next, again)
			continue
		}
		starting++
		p.startWorker(p.cfg(), l, i)
	}
	return next
}

func (p *pool) startWorker(cfg *poolSettings, l *launcher, index int) *worker {
	p.loop.serial++
	w := newWorker(p, cfg, l, index, p.loop.serial)
	p.mu.Lock()
	p.workers[w.id] = w
	p.mu.Unlock()
	p.loop.workers.Go(func() {
		w.run()
		if !w.life.proven {
			p.loop.mu.Lock()
			p.loop.unproven = append(p.loop.unproven, w)
			p.loop.mu.Unlock()
		}
		p.mu.Lock()
		delete(p.workers, w.id)
		p.mu.Unlock()
		p.poke()
	})
	return w
}

// derivePhase computes the pool's phase from what there is.
func (p *pool) derivePhase() {
	p.mu.Lock()
	defer p.mu.Unlock()
	serving := 0
	for _, w := range p.workers {
		if w.shown.state == stateReady || w.shown.state == stateBusy {
			serving++
			p.loop.slots[w.index].failures = 0
		}
	}
	phase, why := derive(serving, p.desired, p.drained, p.loop.served, p.startFailure())
	p.loop.served = p.loop.served || phase == poolReady
	p.setPhase(phase, why)
}

// startFailure is why starts fail for good; p.mu is held: the launcher's failure, or one of a slot that has used its tries.
func (p *pool) startFailure() *Error {
	if p.loop.launch.failed() {
		return p.loop.launch.failure
	}
	for i := range min(p.desired, len(p.loop.slots)) {
		if s := &p.loop.slots[i]; s.failed() {
			return s.failure
		}
	}
	return p.tooManyUnkillable()
}

// derive is the pool's phase as a pure function.
func derive(serving, desired int, drained, served bool, failure *Error) (poolPhase, *Error) {
	switch {
	case drained:
		return poolDraining, nil
	case serving >= desired:
		return poolReady, nil
	case serving == 0 && failure != nil:
		return poolFailed, failure
	case served || failure != nil:
		return poolDegraded, nil
	}
	return poolStarting, nil
}

func (w *worker) String() string { return fmt.Sprintf("worker %s", w.id) }
