package agent

import (
	"fmt"
	"log/slog"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
)

// endStage is how far the end of a worker has been taken; it only ever grows.
type endStage int

const (
	notEnding     endStage = iota
	endDrain               // DRAIN sent: the running call ends, then teardown, exit 0
	endStop                // the keeper's ladder: TERM, grace, KILL
	endKill                // the keeper was told to kill at once
	endKillSelf            // the keeper did not: the agent killed the worker by its pidfd
	endUnkillable          // it outlives every KILL: a substitute starts, and its keeper waits for it
	endLeave               // the agent ends and leaves it behind, named
)

// endOrder is an order to end a worker. A later order never weakens an earlier one.
type endOrder struct {
	stage endStage
	why   string        // for the post-mortem; empty for an ordinary stop
	grace time.Duration // of endDrain: until the ladder; of endStop: between TERM and KILL
	dump  bool          // dump the Python stacks first
	// evidence is what the decision rests on, for the post-mortem; empty for a plain order.
	evidence string
}

// order hands an end order to the worker; it never blocks (eight orders deep, and the strongest has been heard by then).
func (w *worker) order(o endOrder) {
	select {
	case w.orders <- o:
	case <-w.done:
	default:
	}
}

// deadlines are the times at which the run loop must act; zero means none.
type deadlines struct {
	start, end, cut, beat time.Time
}

func (d *deadlines) next() time.Time {
	var next time.Time
	for _, t := range []time.Time{d.start, d.end, d.cut, d.beat} {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}

// escalate carries out an order and sets the deadline of the next rung.
func (w *worker) escalate(o endOrder, now time.Time) {
	if o.stage < w.life.stage || (o.stage == w.life.stage && o.stage != endStop && o.stage != endDrain) {
		return
	}
	if o.why != "" && w.life.killer == "" {
		w.life.killer, w.life.evidence = o.why, o.evidence
	}
	w.life.stage = o.stage
	w.pool.markEnding(w, o.stage)
	switch o.stage {
	case endDrain:
		_ = w.link.sendControl(&ipc.Frame{Type: ipc.Drain})
		w.life.deadlines.end = now.Add(o.grace)
	case endStop:
		_ = w.keeperLink.send(stopOrder{Op: "stop", GraceUS: o.grace.Microseconds()})
		w.life.deadlines.end = now.Add(o.grace + killPatience)
	case endKill:
		if o.dump {
			w.life.stack = userStack(w.dump(dumpLimit), w.pool.agent.library)
		}
		_ = w.keeperLink.send(plainOrder{Op: "kill"})
		w.cgroup.kill() // all of it at once, whatever it forks meanwhile; the keeper collects it
		w.life.deadlines.end = time.Now().Add(killPatience)
	case endKillSelf:
		w.cgroup.kill()
		_ = w.process.signal(syscall.SIGKILL)
		w.life.deadlines.end = now.Add(unkillableAfter - killPatience)
	case endUnkillable:
		w.unkillable(lookAt(w.process.pid, 0))
		w.life.deadlines.end = time.Time{}
	case endLeave:
		w.life.deadlines.end = time.Time{}
	}
	w.life.deadlines.start, w.life.deadlines.beat = time.Time{}, time.Time{}
	if o.stage == endDrain {
		w.life.deadlines.beat = now // a draining worker still runs a call and is still watched
	}
}

// overdue is called when the present rung's deadline has passed.
func (w *worker) overdue(now time.Time) {
	next := endOrder{stage: w.life.stage + 1}
	if next.stage == endUnkillable && !lookAt(w.process.pid, 0).held() {
		w.life.deadlines.end = now.Add(lookAgain)
		return
	}
	if next.stage == endStop {
		next.grace, next.why = w.cfg.Timeouts.Kill, "still running after the drain"
	}
	w.escalate(next, now)
}

// end is everything after the process's death or a failed launch: last words, post-mortem, proof of emptiness.
func (w *worker) end() {
	if w.process != nil {
		if w.life.stage == endLeave || !w.waitDead() {
			w.leave(lookAt(w.process.pid, 0))
			return
		}
		w.life.died = time.Now()
		w.hearLastWords()
	}
	w.pool.exited(w, w.postMortem(), w.life.failure)
	w.life.proven = w.keeper == nil
	if w.keeper != nil {
		if !w.waitKeeper() {
			return
		}
		w.cleanedUp()
	}
	if w.crash != nil {
		w.crash.close() // before the pidfds: a dump for somebody else signals through them
	}
	if w.link != nil {
		w.link.close()
	}
	if w.keeperLink != nil {
		w.keeperLink.close()
	}
	if w.out != nil {
		w.out.close()
	}
	w.drainEvents()
	for _, p := range []*pidfd{w.process, w.keeper} {
		if p != nil {
			w.pool.agent.guard.release(p)
			w.pool.agent.record.remove(p)
			p.close()
		}
	}
}

// cleanedUp tells how long it took from the death to the end of the keeper.
func (w *worker) cleanedUp() {
	if w.process == nil {
		return
	}
	took := time.Since(w.life.died)
	if w.life.lastCall != 0 {
		w.pool.agent.outcomes.cleanedUp(w.life.lastCall, took)
	}
}

// drainEvents joins the readers; they may be waiting to post.
func (w *worker) drainEvents() {
	joined := make(chan struct{})
	go func() { w.wg.Wait(); close(joined) }()
	for {
		select {
		case <-w.events:
		case <-joined:
			return
		}
	}
}

// waitDead makes sure of the process's death after a launch that failed late; false if it is to be left behind.
func (w *worker) waitDead() bool {
	timer := time.NewTimer(killPatience)
	defer timer.Stop()
	for sent := false; ; {
		select {
		case <-w.dead:
			return true
		case o := <-w.orders:
			if o.stage == endLeave {
				return false
			}
		case <-timer.C:
			_ = w.process.signal(syscall.SIGKILL)
			switch s := lookAt(w.process.pid, 0); {
			case !sent:
				sent = true
				timer.Reset(unkillableAfter - killPatience)
			case s.held():
				w.unkillable(s)
			default:
				timer.Reset(lookAgain)
			}
		case ev := <-w.events:
			w.hearLast(ev)
		}
	}
}

// hearLastWords takes what the worker said before it died: a result that is complete in the socket is a result, and FAILED
// says why it could not start.
func (w *worker) hearLastWords() {
	sockets, output := time.NewTimer(lastFrames), time.NewTimer(lastWords)
	defer sockets.Stop()
	defer output.Stop()
	outEnded, dataEnded, controlEnded, outLate := w.out.ended, w.read, w.heard, output.C
	if !w.life.listening {
		dataEnded, controlEnded = nil, nil // nobody reads them
	}
	for (w.life.exited == nil && !w.life.mute) || outEnded != nil || dataEnded != nil || controlEnded != nil {
		select {
		case ev := <-w.events:
			w.hearLast(ev)
		case <-dataEnded:
			dataEnded = nil
		case <-controlEnded:
			controlEnded = nil
		case <-outEnded:
			outEnded = nil
		case <-outLate:
			outEnded, outLate = nil, nil
		case <-sockets.C:
			w.pool.log.Warn("the last words of a worker did not come", "worker", w.id)
			return
		}
	}
	for { // a reader posts before it ends
		select {
		case ev := <-w.events:
			w.hearLast(ev)
		default:
			return
		}
	}
}

func (w *worker) hearLast(ev workerEvent) {
	switch {
	case ev.mute:
		w.life.mute = true
	case ev.keeper != nil:
		w.hearKeeper(ev.keeper)
	case ev.frame != nil && ev.frame.Type == ipc.Failed:
		w.startFailed(ev.frame)
	}
}

// waitKeeper waits until the keeper is gone and collects its status; false if it and what it guards were left behind. A keeper that
// does not come to its end is killed, unless what keeps it is a process that outlives KILL: nobody else would do better.
func (w *worker) waitKeeper() bool {
	began := time.Now()
	gone := make(chan struct{})
	go func() { _ = w.keeper.wait(); close(gone) }()
	timer := time.NewTimer(w.cfg.Timeouts.Kill + keeperPatience)
	defer timer.Stop()
	var late <-chan time.Time
	tellKill := true
	for gone != nil || !w.life.mute { // what it had to kill is its last word, and may be read a moment after its death
		select {
		case <-gone:
			gone, late = nil, time.After(lastFrames)
		case <-late:
			w.life.mute = true
		case ev := <-w.events:
			w.hearLast(ev)
		case o := <-w.orders:
			switch {
			case o.stage == endLeave:
				w.leave(w.lookKeeper())
				return false
			case o.stage >= endKill:
				_ = w.keeperLink.send(plainOrder{Op: "kill"})
			}
		case <-timer.C:
			switch s := w.lookKeeper(); {
			case s.held() && killed(s.PID):
				w.unkillable(s)
			case !tellKill:
				timer.Reset(lookAgain)
			default:
				tellKill = false
				w.emit(keeperKilled, slog.Int("keeper_pid", w.keeper.pid))
				_ = w.keeper.signal(syscall.SIGKILL)
				timer.Reset(unkillableAfter)
			}
		}
	}
	left := w.cgroup.close(cgroupPatience)
	if left != nil {
		w.pool.log.Error("cannot empty a worker's cgroup", "worker", w.id, "cause", left)
	}
	status, survivors, err := w.launcher.reapKeeper(w.keeper)
	switch {
	case err != nil:
		w.pool.log.Error("cannot collect a keeper's status", "worker", w.id, "keeper", w.keeper.pid, "cause", err)
	default:
		w.life.proven = status == 0
		w.emitCleanup(began, status, left == nil, survivors)
	}
	return true
}

// lookKeeper is who keeps the keeper from its end: a child that outlives KILL, or the keeper itself.
func (w *worker) lookKeeper() survivor {
	for _, pid := range w.pool.agent.children.list(w.keeper.pid) {
		if s := lookAt(pid, 0); s.held() && killed(pid) {
			return s
		}
	}
	return lookAt(w.keeper.pid, 0)
}

// postMortem puts together what is known of the end.
func (w *worker) postMortem() *PostMortem {
	if w.process == nil {
		return nil
	}
	w.pool.mu.Lock()
	calls := w.shown.calls
	w.pool.mu.Unlock()
	pm := &PostMortem{Killer: w.life.killer, Evidence: w.life.evidence, Stack: w.life.stack, Output: w.out.tail(),
		Uptime: time.Since(w.born).Round(time.Millisecond).String(), Calls: calls}
	if pm.Stack == "" {
		pm.Stack = userStack(w.crash.lastWords(), w.pool.agent.library)
	}
	if e := w.life.exited; e != nil {
		pm.Code, pm.MaxRSSKB = e.Code, e.MaxRSSKB
		if e.Signal != nil {
			pm.Signal = signalName(*e.Signal)
		}
		if e.Signal != nil && syscall.Signal(*e.Signal) == syscall.SIGKILL && pm.Killer == "" {
			pm.Evidence = w.oomEvidence()
		}
	}
	return pm
}

func (w *worker) died(pm *PostMortem) *Error {
	message := fmt.Sprintf("worker %s (pid %d) %s", w.id, w.process.pid, pm.Cause())
	if pm.Killer == "" && pm.Evidence != "" { // nobody of ours: then the signs are all there is
		message += "; " + pm.Evidence
	}
	return &Error{Reason: WorkerDied, Pool: w.pool.name, Worker: w.id, MayHaveRun: true, PostMortem: pm, Traceback: pm.Stack, Message: message}
}
