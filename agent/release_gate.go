package agent

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
)

const (
	// releaseNameless is how long a slot waits before its looks also find out who holds what: that reads the descriptors of every process.
	releaseNameless = time.Second
	// releaseJoin is how long the end of a pool waits for a look that goes on: a file system that never answers holds one for ever.
	releaseJoin = 2 * time.Second
)

// releaseGate is what keeps one slot's next worker back. The pool's loop owns it; a look, which may take its time, runs beside it
// and puts its answer into the loop's mailbox.
type releaseGate struct {
	since   time.Time // when nothing else kept the worker back any more; zero: the slot does not wait
	wait    int       // number of this wait: the answer to a look of an earlier one says nothing
	probing bool      // a look goes on, of this wait or of an earlier one
	named   bool      // the last one that was begun also asks who holds what
	looked  time.Time // when the last answer came; zero: none yet
	held    []hold    // by that answer
	overdue bool
	waited  []heldOnce
	apps    map[int]bool // processes that used the GPUs when the slot's last worker started
	remains *remains     // what the predecessor's keeper could not prove to be gone
}

// heldOnce is one resource that a look of this wait did not find free.
type heldOnce struct {
	hold
	until time.Time // when one did; zero: not yet
}

// remains is where the rest of a worker's tree has fallen whose keeper was killed.
type remains struct {
	worker   string
	launcher *launcher
}

// releaseAnswer is what a look has found.
type releaseAnswer struct {
	index, wait int
	held        []hold
	apps        map[int]bool
}

// waitShown is a wait as status shows it; guarded by pool.mu.
type waitShown struct {
	since time.Time
	held  []hold
}

// turnRelease says whether the next worker of an index may start. If not, again is when to ask anew at the latest, zero for when
// something changes.
func (p *pool) turnRelease(index int, cfg *poolSettings, now time.Time) (open bool, again time.Time) {
	s := &p.loop.slots[index]
	g := &s.release
	if !cfg.gated() {
		p.endWait(index)
		return true, time.Time{}
	}
	if g.since.IsZero() {
		g.since = now
		g.wait++
	}
	v := releaseView{waited: now.Sub(g.since), probing: g.probing, looked: !g.looked.IsZero(), free: len(g.held) == 0, age: now.Sub(g.looked), named: g.named, overdue: g.overdue}
	step, wait := decideRelease(v, cfg.Release.Timeout, cfg.Release.OnTimeout == "start", p.loop.probe)
	switch step {
	case releaseStart:
		p.tellReleased(index)
		p.endWait(index)
		return true, time.Time{}
	case releaseForce:
		p.tellOverdue(index, cfg, now, "starts all the same")
		p.endWait(index)
		return true, time.Time{}
	case releaseFail:
		g.overdue = true
		p.tellOverdue(index, cfg, now, "stays away until all is free")
		g.held = g.notFree(cfg.resources(index))
		s.failure = releaseFailure(index, cfg, g.held)
		return p.turnRelease(index, cfg, now)
	case releaseLook:
		p.look(index, cfg, v.waited >= min(releaseNameless, cfg.Release.Timeout/2))
	}
	p.showWait(index, g.since, g.held)
	if wait == 0 {
		return false, time.Time{}
	}
	return false, now.Add(wait)
}

// notFree is what is known to be held, or what the look that does not end was to find out.
func (g *releaseGate) notFree(all []resource) []hold {
	if !g.looked.IsZero() {
		return g.held
	}
	var names []string
	for _, r := range all {
		names = append(names, r.String())
	}
	return []hold{{strings.Join(names, ", "), "the look at it does not end"}}
}

func releaseFailure(index int, cfg *poolSettings, held []hold) *Error {
	var texts []string
	for _, h := range held {
		texts = append(texts, h.String())
	}
	return failf(PoolFailed, "cannot start worker %d of pool %q: not free after %s: %s; it starts by itself once all is free, or see release.on_timeout",
		index, cfg.Name, durationText(cfg.Release.Timeout), strings.Join(texts, ", "))
}

// look starts a look. There is one at a time for a slot, and the loop never waits for it.
func (p *pool) look(index int, cfg *poolSettings, name bool) {
	g := &p.loop.slots[index].release
	g.probing, g.named = true, name
	l := resourceLook{ctx: p.loop.looks, resources: cfg.resources(index), reuseAddress: cfg.Release.ReuseAddress, gpuMemory: cfg.Release.GPUMemory, apps: g.apps, pidsMatch: firstPIDNamespace(), remains: g.remains, name: name, pool: p}
	a := releaseAnswer{index: index, wait: g.wait}
	done := make(chan struct{})
	p.loop.looking[index] = done
	go func() { // joined by joinLooks, which gives up on one that hangs in the kernel
		defer close(done)
		a.held, a.apps = l.run()
		p.loop.mu.Lock()
		p.loop.answers = append(p.loop.answers, a)
		p.loop.mu.Unlock()
		p.poke()
	}()
}

// takeAnswers notes what the looks have found since the last turn, and whose trees were not proven empty.
func (p *pool) takeAnswers(now time.Time) {
	p.loop.mu.Lock()
	answers, unproven := p.loop.answers, p.loop.unproven
	p.loop.answers, p.loop.unproven = nil, nil
	p.loop.mu.Unlock()
	for _, w := range unproven {
		p.loop.slots[w.index].release.remains = &remains{w.id, w.launcher}
	}
	for _, a := range answers {
		g := &p.loop.slots[a.index].release
		g.probing = false
		if a.wait != g.wait || g.since.IsZero() {
			continue
		}
		g.looked = now
		g.take(a, now)
	}
}

// take keeps the books of the wait: what was held at some look, by whom, and until when.
func (g *releaseGate) take(a releaseAnswer, now time.Time) {
	g.held = a.held
	if len(a.held) == 0 {
		g.apps = a.apps
	}
	still := map[string]bool{}
	for i, h := range a.held {
		still[h.resource] = true
		at := -1
		for j := range g.waited {
			if g.waited[j].resource == h.resource {
				at = j
			}
		}
		if at < 0 {
			g.waited, at = append(g.waited, heldOnce{hold: h}), len(g.waited)
		}
		w := &g.waited[at]
		w.until = time.Time{}
		if h.by != "" {
			w.by = h.by
		}
		g.held[i].by = w.by
	}
	for j := range g.waited {
		if w := &g.waited[j]; !still[w.resource] && w.until.IsZero() {
			w.until = now
		}
	}
}

// endWait forgets the wait of an index, if there is one.
func (p *pool) endWait(index int) {
	g := &p.loop.slots[index].release
	if g.since.IsZero() {
		return
	}
	*g = releaseGate{wait: g.wait, probing: g.probing, apps: g.apps}
	p.showWait(index, time.Time{}, nil)
}

func (p *pool) showWait(index int, since time.Time, held []hold) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(held) == 0 {
		delete(p.waits, index)
		return
	}
	p.waits[index] = waitShown{since, held}
}

func (p *pool) tellReleased(index int) {
	g := &p.loop.slots[index].release
	for _, w := range g.waited {
		p.emit(workerReleaseWaited, w.fields(index, w.until.Sub(g.since))...)
	}
}

func (p *pool) tellOverdue(index int, cfg *poolSettings, now time.Time, then string) {
	g := &p.loop.slots[index].release
	for _, h := range g.notFree(cfg.resources(index)) {
		p.emit(workerReleaseOverdue, append(h.fields(index, now.Sub(g.since)), slog.String("then", then))...)
	}
}

func (h hold) fields(index int, waited time.Duration) []slog.Attr {
	fields := []slog.Attr{slog.Int("index", index), slog.String("resource", h.resource), seconds("waited_s", waited)}
	if h.by != "" {
		fields = append(fields, slog.String("holder", h.by))
	}
	return fields
}

// joinLooks ends the looks that go on and waits for them, for a moment.
func (p *pool) joinLooks() {
	p.loop.endLooks()
	patience := time.NewTimer(releaseJoin)
	defer patience.Stop()
	for index, done := range p.loop.looking {
		select {
		case <-done:
		case <-patience.C:
			p.log.Warn("a look at what a worker needs does not end; it is left behind", "index", index)
			return
		}
	}
}

// ReleaseStatus is a slot whose worker waits for what its predecessor may hold.
type ReleaseStatus struct {
	Index   int      `json:"index"`
	For     []string `json:"for"` // each with who holds it, if that is known
	WaitedS float64  `json:"waited_s"`
}

func (s ReleaseStatus) String() string {
	return fmt.Sprintf("worker %d waits for %s, %.1f s", s.Index, strings.Join(s.For, ", "), s.WaitedS)
}

// waitStatus is what the slots wait for, by index; p.mu is held.
func (p *pool) waitStatus(now time.Time) (all []ReleaseStatus) {
	for index := range p.desired {
		w, ok := p.waits[index]
		if !ok {
			continue
		}
		row := ReleaseStatus{Index: index, WaitedS: now.Sub(w.since).Seconds()}
		for _, h := range w.held {
			row.For = append(row.For, h.String())
		}
		all = append(all, row)
	}
	return all
}
