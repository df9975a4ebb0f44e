package agent

import (
	"context"
	"fmt"
)

// announce wakes everybody who waits for a change of phase or tools; p.mu is held.
func (p *pool) announce() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// waitServing returns nil when the pool is at target, or its failure; ctx bounds the wait.
func (p *pool) waitServing(ctx context.Context) error {
	for {
		p.mu.Lock()
		phase, failure, changed := p.phase, p.failure, p.changed
		p.mu.Unlock()
		switch phase {
		case poolReady:
			return nil
		case poolFailed:
			return p.refusalFor(failure)
		case poolDraining, poolStopped:
			return failf(Draining, "pool %q is %s", p.name, phase)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("cannot wait for pool %q: %w", p.name, ctx.Err())
		}
	}
}

// waitTools returns when the tools are known, or nobody is about to say them, or ctx has ended.
func (p *pool) waitTools(ctx context.Context) {
	for {
		p.mu.Lock()
		known, changed := len(p.tools) > 0 || p.phase != poolStarting, p.changed
		p.mu.Unlock()
		if known {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
