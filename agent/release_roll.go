package agent

import "time"

// vacancy is a slot that a roll empties for a successor: that needs what its predecessor holds, so it cannot start beside it. The
// slots are taken one after the other, so that the rest of the pool serves on.
type vacancy struct {
	index int
	told  map[*worker]bool // who has been ordered to end
}

// startAfterRelease is startSuccessors in a pool with a release gate. next is when to look again at the latest.
func (p *pool) startAfterRelease(r *roll, now time.Time) (next time.Time) {
	if len(r.pairs) > 0 {
		return next
	}
	if r.vacancy == nil {
		index, ok := p.nextToVacate(r)
		if !ok {
			return next
		}
		r.vacancy = &vacancy{index: index, told: map[*worker]bool{}}
		p.endWait(index) // what is free is to be found out anew
	}
	if !p.vacate(r.vacancy) {
		r.emptied = true
		return next // the end of the last one pokes the loop
	}
	index := r.vacancy.index
	open, again := p.turnRelease(index, r.settings, now)
	switch s := &p.loop.slots[index]; {
	case s.release.overdue:
		r.failure = s.failure
		p.endWait(index) // what the old settings need is another wait
	case !open:
		return again
	default:
		r.vacancy = nil
		r.pairs[p.startWorker(r.settings, r.launcher, index)] = nil
	}
	return next
}

// nextToVacate is the next index whose worker is of the old kind.
func (p *pool) nextToVacate(r *roll) (index int, ok bool) {
	if r.only != nil {
		index = r.only.index
		r.only, r.single = nil, true
		return index, true
	}
	if r.single {
		return 0, false
	}
	for index, old := range p.predecessors(r) {
		if !old.replaced {
			return index, true
		}
	}
	return 0, false
}

// vacate ends every worker of the index, after its call, and says whether all are gone and their trees proven empty.
func (p *pool) vacate(v *vacancy) (empty bool) {
	var all []*worker
	p.mu.Lock()
	for _, w := range p.workers {
		if w.index == v.index {
			all = append(all, w)
		}
	}
	p.mu.Unlock()
	for _, w := range all {
		if !v.told[w] {
			v.told[w] = true
			p.replaceWorker(w)
		}
	}
	return len(all) == 0
}

// vacated says whether the roll keeps an index empty for its successor.
func (p *pool) vacated(index int) bool {
	r := p.loop.roll
	return r != nil && r.vacancy != nil && r.vacancy.index == index
}
