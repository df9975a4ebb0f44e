package agent

import (
	"math/rand/v2"
	"slices"
)

// tally is what one index of the pool has.
type tally struct {
	active    []*worker // starting, ready or busy
	alive     int       // processes that are not held and not yet dead, ending ones included
	heldAlive int
	present   int // workers in any state: their trees are not proven empty
}

// retire ends all but one of an index's workers, newest first. Only one that has no call is taken, out of dispatch at
// once; while all of them run calls the index keeps them, and a later turn finds one idle.
func (p *pool) retire(active []*worker) {
	for left := len(active); left > 1; left-- {
		w := p.idleOf(active)
		if w == nil {
			return
		}
		w.order(endOrder{stage: endDrain, grace: p.cfg().Timeouts.Kill}) // it only has its teardown to do
	}
}

// idleOf takes the newest worker that has no call out of dispatch and returns it.
func (p *pool) idleOf(active []*worker) *worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range slices.Backward(active) {
		switch w.shown.state {
		case stateStarting, stateReady:
			p.withdraw(w)
			p.transition(w, eventDrain)
			return w
		}
	}
	return nil
}

func (p *pool) count() (tallies []tally, starting, desired int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	tallies = make([]tally, len(p.loop.slots))
	for _, w := range p.workers {
		t := &tallies[w.index]
		t.present++
		switch w.shown.state {
		case stateStarting:
			starting++
			t.active = insertBySerial(t.active, w)
		case stateReady, stateBusy:
			t.active = insertBySerial(t.active, w)
		case stateHeld:
			t.heldAlive++
		case stateDraining, stateStopping:
			if !w.shown.exited {
				t.alive++
			}
		}
	}
	return tallies, starting, p.desired
}

// growSlots gives each index its bookkeeping; those above the present number keep theirs, as their workers still end.
func (p *pool) growSlots() {
	p.mu.Lock()
	desired := p.desired
	p.mu.Unlock()
	for len(p.loop.slots) < desired {
		s := slot{}
		s.restarts.jitter = rand.Float64
		p.loop.slots = append(p.loop.slots, s)
	}
}

func insertBySerial(list []*worker, w *worker) []*worker {
	at := len(list)
	for at > 0 && list[at-1].serial > w.serial {
		at--
	}
	list = append(list, nil)
	copy(list[at+1:], list[at:])
	list[at] = w
	return list
}
