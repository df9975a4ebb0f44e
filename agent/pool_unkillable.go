package agent

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// giveUpOn takes a worker off the pool's hands that outlives KILL, or whose process is dead and has left something that does: what it
// runs fails with the verdict, its slot is filled anew.
func (p *pool) giveUpOn(w *worker, s survivor, pm *PostMortem) {
	p.mu.Lock()
	c := p.takeCall(w)
	if w.shown.state != stateStopping && w.shown.state != stateGone {
		p.transition(w, eventKill) // a launch that failed late
	}
	p.transition(w, eventOutlives)
	w.shown.unkillable, w.shown.stop = s.String(), stopNot
	starting, exited := w.shown.readyAt.IsZero(), w.shown.exited
	p.mu.Unlock()
	fields := s.fields()
	if c != nil {
		pm.Call, pm.Tool, w.life.lastCall = c.id, c.tool, c.id
		fields = append(fields, slog.Int64("call", int64(c.id)), slog.String("tool", c.tool))
	}
	w.emit(workerUnkillable, fields...)
	if c != nil {
		c.ended <- w.died(pm)
	}
	if !exited { // else its exit was reported
		p.loop.report(exitReport{worker: w, failure: w.life.failure, starting: starting, ordered: w.life.failure == nil})
	}
	p.poke()
}

// tooManyUnkillable is why no further worker is started: each slot may have one that outlives KILL, for which a substitute serves;
// a tool that hangs in the kernel with every call must not fill the host with processes that nobody can end. p.mu is held.
func (p *pool) tooManyUnkillable() *Error {
	count, one := 0, ""
	for _, w := range p.workers {
		if w.shown.unkillable != "" {
			count, one = count+1, w.shown.unkillable
		}
	}
	if count <= p.desired {
		return nil
	}
	return failf(PoolFailed, "%d workers of pool %q outlive SIGKILL, such as %s; no other is started until one of them ends", count, p.name, one)
}

// leaveUnkillable lets go of those that outlive KILL when nothing else holds up the stop of the agent. Those of a pool that is removed
// from a living agent are waited for.
func (p *pool) leaveUnkillable() {
	if !p.agent.draining.Load() {
		return
	}
	var stuck []*worker
	p.mu.Lock()
	for _, w := range p.workers {
		if w.shown.unkillable == "" {
			p.mu.Unlock()
			return
		}
		stuck = append(stuck, w)
	}
	p.left = p.left || len(stuck) > 0
	p.mu.Unlock()
	for _, w := range stuck {
		w.order(endOrder{stage: endLeave})
	}
}

// maxStuckLaunchers is how many launchers of a pool may outlive KILL, as in the import of a preload from a file system that does not
// answer, before no other is started until one of them ends.
const maxStuckLaunchers = startTries

// stuckLaunchers tells of those that outlive KILL, each once, and is why no other may be started; nil when one may.
func (p *pool) stuckLaunchers() *Error {
	count, one := 0, ""
	for _, l := range p.loop.running {
		at := l.killedAt.Load()
		if at == 0 || p.agent.uptime()-time.Duration(at) < unkillableAfter || l.isDead() {
			continue
		}
		s := lookAt(l.process.pid, 0)
		if !s.held() {
			continue
		}
		if count, one = count+1, s.String(); !l.toldStuck {
			l.toldStuck = true
			p.emit(launcherUnkillable, s.fields()...)
		}
	}
	if count < maxStuckLaunchers {
		return nil
	}
	return failf(PoolFailed, "%d launchers of pool %q outlive SIGKILL, such as %s; no other is started until one of them ends", count, p.name, one)
}

func (p *pool) hasLeft() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left
}

// leaveBehind notes a process that the agent cannot end before its own end.
func (a *Agent) leaveBehind(s survivor) {
	a.poolsMu.Lock()
	defer a.poolsMu.Unlock()
	a.behind = append(a.behind, s.String())
}

// LeftBehindError is what Run returns when everything has ended but processes that outlive SIGKILL.
type LeftBehindError struct{ Processes []string }

func (e *LeftBehindError) Error() string {
	return fmt.Sprintf("cannot end %d processes: %s", len(e.Processes), strings.Join(e.Processes, "; "))
}
