package agent

import (
	"context"
	"fmt"
	"log/slog"
)

// maxWorkers is the most workers that a pool may have.
const maxWorkers = 1000

// restart replaces one worker, or all for an empty id, and waits for the end of that. The roll goes on when ctx ends.
func (p *pool) restart(ctx context.Context, worker string, settings *poolSettings) ([]string, error) {
	reply := make(chan rollResult, 1)
	p.order(poolOrder{worker: worker, settings: settings, reply: reply})
	select {
	case r := <-reply:
		if r.err != nil {
			return r.workers, r.err
		}
		return r.workers, nil
	case <-p.ended:
		return nil, failf(Draining, "pool %q is stopped", p.name)
	case <-ctx.Done():
		return nil, failf(CallTimeout, "the restart of pool %q goes on; `pitboss status` shows it", p.name)
	}
}

// drain stops the intake and waits until nothing waits or runs.
func (p *pool) drain(ctx context.Context) error {
	p.mu.Lock()
	if p.phase == poolStopped {
		p.mu.Unlock()
		return failf(Draining, "pool %q is stopped", p.name)
	}
	p.drained = true
	p.setPhase(poolDraining, nil)
	p.mu.Unlock()
	for {
		p.mu.Lock()
		quiet, changed := p.quiet(), p.changed
		left := p.busy() + len(p.queue)
		p.mu.Unlock()
		if quiet {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return failf(CallTimeout, "pool %q takes no new calls, but %d have not ended yet; `pitboss calls` lists them", p.name, left)
		}
	}
}

// resume ends a drain; the loop finds the phase that fits.
func (p *pool) resume() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase == poolStopped || (p.phase == poolDraining && !p.drained) {
		return failf(Draining, "pool %q is being stopped and cannot be resumed", p.name)
	}
	if p.drained {
		p.drained = false
		p.setPhase(poolDegraded, nil) // until the loop has looked
	}
	p.poke()
	return nil
}

// quiet says that no call waits or runs; p.mu is held.
func (p *pool) quiet() bool { return len(p.queue) == 0 && p.busy() == 0 }

// busy is how many workers run a call; p.mu is held.
func (p *pool) busy() (n int) {
	for _, w := range p.workers {
		if w.shown.current != nil {
			n++
		}
	}
	return n
}

// tellDrain wakes who waits for the end of a drain; p.mu is held. Free while the pool is not drained.
func (p *pool) tellDrain() {
	if p.drained && p.quiet() {
		p.announce()
	}
}

// scale sets how many workers there should be.
func (p *pool) scale(n int) error {
	if n < 1 || n > maxWorkers {
		return failf(BadArguments, "cannot scale pool %q to %d workers; 1 to %d are possible", p.name, n, maxWorkers)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase == poolStopped || (p.phase == poolDraining && !p.drained) {
		return failf(Draining, "pool %q is being stopped", p.name)
	}
	p.emit(poolScaled, slog.Int("from", p.desired), slog.Int("to", n))
	p.desired = n
	p.poke()
	return nil
}

// Restart replaces one worker, or with a pool's name all of that pool by workers with new code, and returns the new ones. A
// worker ends only when its successor is ready; if none can start, POOL_FAILED says why and the old ones serve on.
func (a *Agent) Restart(ctx context.Context, worker, pool string) ([]string, error) {
	switch {
	case (worker == "") == (pool == ""):
		return nil, failf(BadArguments, "name either one worker or one pool to restart")
	case pool != "":
		p, e := a.choosePool(&Request{Pool: pool})
		if e != nil {
			return nil, e
		}
		return p.restart(ctx, "", nil)
	}
	p, e := a.poolOf(worker)
	if e != nil {
		return nil, e
	}
	return p.restart(ctx, worker, nil)
}

// poolOf finds the pool that has a worker of that id.
func (a *Agent) poolOf(worker string) (*pool, *Error) {
	for _, p := range a.allPools() {
		p.mu.Lock()
		w := p.workers[worker]
		p.mu.Unlock()
		if w != nil {
			return p, nil
		}
	}
	return nil, &Error{Reason: UnknownWorker, Worker: worker,
		Message: fmt.Sprintf("no worker is named %q; `pitboss status` lists them%s", worker, nearName(worker, a.workerNames()))}
}

// chosen is the named pool, or all of them for an empty name.
func (a *Agent) chosen(name string) ([]*pool, error) {
	if name == "" {
		return a.allPools(), nil
	}
	p, e := a.choosePool(&Request{Pool: name})
	if e != nil {
		return nil, e
	}
	return []*pool{p}, nil
}

// Drain stops the intake of one pool, or of all for an empty name, and returns when nothing waits or runs in them; ctx bounds
// the wait, not the drain. The workers stay.
func (a *Agent) Drain(ctx context.Context, pool string) error {
	pools, err := a.chosen(pool)
	if err != nil {
		return err
	}
	for _, p := range pools { // all of them at once
		p.mu.Lock()
		if p.phase != poolStopped {
			p.drained = true
			p.setPhase(poolDraining, nil)
		}
		p.mu.Unlock()
	}
	for _, p := range pools {
		if err := p.drain(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Resume ends the drain of one pool, or of all for an empty name.
func (a *Agent) Resume(pool string) error {
	pools, err := a.chosen(pool)
	if err != nil {
		return err
	}
	for _, p := range pools {
		if err := p.resume(); err != nil {
			return err
		}
	}
	return nil
}

// Scale sets the number of workers of a pool until the next reload. Workers that are too many end after their calls.
func (a *Agent) Scale(pool string, n int) error {
	p, e := a.choosePool(&Request{Pool: pool})
	if e != nil {
		return e
	}
	if shared := p.cfg().Release.shared(pool, n); len(shared) > 0 {
		return failf(BadArguments, "cannot scale pool %q to %d workers: %s: %q is the same for all, so that each would wait for another's", pool, n, shared[0].key, shared[0].entry)
	}
	total := n
	for _, other := range a.allPools() {
		if other != p {
			other.mu.Lock()
			total += other.desired
			other.mu.Unlock()
		}
	}
	if f := descriptorFault(total); f != nil {
		return failf(BadArguments, "cannot scale pool %q: %s", pool, f.Problem)
	}
	return p.scale(n)
}
