package watchdog

import "time"

// instant is a point of CLOCK_MONOTONIC in nanoseconds since boot; 0 means none.
type instant = time.Duration

const (
	// abortGrace is how long an agent that got ABRT may write its stacks before KILL.
	abortGrace = 2 * time.Second
	// killBound is how long death may take after a KILL before it is given up and named in the certificate.
	killBound = 5 * time.Second
	// ladderSlack is added to the longest grace of the keepers before their trees are killed from outside.
	ladderSlack = 500 * time.Millisecond
	// hurrySlack is added to the longest grace once a second stop signal came.
	hurrySlack = 2 * time.Second
	// budgetSlack is added to the agent's own stop budget, so that its deadline comes first.
	budgetSlack = time.Second
	// byeGrace is how long an agent that said BYE may take to exit.
	byeGrace = 10 * time.Second
	// extendSlack is added to what is asked of the service manager while a drain makes progress.
	extendSlack = 5 * time.Second
)

// Signal numbers that the engine speaks of; the same on every Linux architecture.
const (
	sigABRT = 6
	sigKILL = 9
	sigCONT = 18
)

// phase is where the agent's life stands.
type phase uint8

const (
	starting phase = iota // runs, has not said HELLO
	running               // said HELLO, beats
	stopping              // told to stop or said so; a deadline runs
	aborting              // got ABRT for its stacks
	killing               // got KILL
	waiting               // dead; its keepers run their ladders
	sweeping              // every child that is left is killed
	done                  // terminal
	phaseCount
)

func (p phase) String() string {
	return [...]string{"starting", "running", "stopping", "aborting", "killing", "waiting", "sweeping", "done"}[p]
}

// eventKind is what happened.
type eventKind uint8

const (
	evHello    eventKind = iota // agent: first message; grace
	evPool                      // agent: a pool; grace
	evBeat                      // agent: alive; draining, calls
	evBudget                    // agent: STOPPING; budget
	evBye                       // agent: will exit with code
	evStop                      // INT, TERM, or the program that we live with is gone; signal
	evForward                   // another signal for the agent; signal
	evAbort                     // ABRT
	evSilence                   // half of agentTimeout without a beat, then all of it
	evHeld                      // judged: silent for a reason
	evHung                      // judged: silent without a reason
	evDeadline                  // the phase's deadline passed
	evDied                      // the agent is dead, keepers must run their ladders
	evEnded                     // the agent is dead by its own will, or never was one
	evSwept                     // children were killed for the first time
	evEmpty                     // no child is left and every pool's cgroup is empty
	eventCount
)

func (k eventKind) String() string {
	return [...]string{"hello", "pool", "beat", "budget", "bye", "stop", "forward", "abort", "silence", "held", "hung",
		"deadline", "died", "ended", "swept", "empty"}[k]
}

// event is one fact for the engine; the comment of each kind names the fields that it uses.
type event struct {
	kind     eventKind
	signal   int
	span     time.Duration // grace or budget
	code     int
	draining bool
	calls    int64
}

// act is what the loop has to do.
type act uint8

const (
	actSignal       act = iota // send a signal to the agent, by pidfd
	actSample                  // take the baseline of the evidence
	actJudge                   // gather evidence, feed evHeld or evHung back
	actTellStopping            // STOPPING=1 to the service manager
	actExtend                  // EXTEND_TIMEOUT_USEC to the service manager
	actScan                    // look at the children now
	actFinish                  // certificate, exit
)

type action struct {
	act    act
	signal int
	span   time.Duration
}

// engine is the state of one agent's life. It is a value: step returns the next one.
type engine struct {
	phase        phase
	agentTimeout time.Duration // silence that is judged
	stopTimeout  time.Duration // from the first stop signal, unless the agent says STOPPING
	grace        time.Duration // longest kill grace of any keeper

	deadline instant // of the phase
	beatAt   instant // last beat, or last verdict "held"
	sampled  bool    // half of the silence has passed and the baseline is taken

	hello     bool
	bye       int // announced exit code, -1 without one
	stops     int // stop signals seen
	drainLeft int64
	cause     string // why the watchdog itself ended the agent; "" if it did not
	sweepEnd  instant
}

func newEngine(agentTimeout, stopTimeout time.Duration) engine {
	return engine{agentTimeout: agentTimeout, stopTimeout: stopTimeout, bye: -1, drainLeft: -1}
}

// step is the whole machine: the next state and what to do. An event that the table does not list for the phase changes
// nothing and is reported as unexpected.
func (e engine) step(ev event, now instant) (next engine, todo []action, expected bool) {
	if ev.kind == evDied && e.ownWill() {
		ev.kind = evEnded
	}
	r, ok := ruleFor(e.phase, ev.kind)
	if !ok {
		return e, nil, false
	}
	from := e.phase
	e.phase = r.to
	todo = e.perform(r.verb, from, ev, now)
	return e, todo, true
}

// ownWill reports whether a death now is the agent's own: announced, or of a command that never was an agent.
func (e *engine) ownWill() bool {
	return e.cause == "" && (e.bye >= 0 || !e.hello)
}

// next is when the engine must be woken: the phase's deadline or the next stage of the silence, 0 for neither.
func (e *engine) next() (at instant, kind eventKind) {
	at, kind = e.deadline, evDeadline
	if e.phase == running {
		at, kind = e.beatAt+e.agentTimeout, evSilence
		if !e.sampled {
			at = e.beatAt + e.agentTimeout/2
		}
	}
	return at, kind
}

func (e *engine) perform(v verb, from phase, ev event, now instant) []action {
	switch v {
	case vGreet:
		e.hello, e.beatAt = true, now
		e.widen(ev.span)
	case vWiden:
		e.widen(ev.span)
	case vBeat:
		e.beatAt, e.sampled = now, false
	case vDrained:
		return e.drained(ev, now)
	case vBudget:
		return e.budget(from, ev.span, now)
	case vBye:
		e.bye = ev.code
		e.shorten(now + byeGrace)
	case vStop:
		return e.stop(from, ev, now)
	case vForward:
		return []action{{act: actSignal, signal: ev.signal}}
	case vSuspect:
		if e.sampled {
			return []action{{act: actJudge}}
		}
		e.sampled = true
		return []action{{act: actSample}}
	case vHeld:
		e.beatAt, e.sampled = now, false
	case vAbort:
		e.cause, e.deadline = "hang", now+abortGrace
		if ev.kind == evAbort {
			e.cause = "abort"
		}
		return []action{{act: actSignal, signal: sigABRT}}
	case vKill:
		if e.cause == "" {
			e.cause = "stop timeout"
		}
		e.deadline = now + killBound
		return []action{{act: actSignal, signal: sigKILL}}
	case vWait:
		e.deadline = now + e.grace + ladderSlack
		return []action{{act: actScan}}
	case vSweep:
		e.sweepEnd = now + sweepLimit
		e.deadline = min(now+killBound, e.sweepEnd)
		return []action{{act: actScan}}
	case vSwept:
		e.deadline = min(now+killBound, e.sweepEnd)
	case vFinish:
		e.deadline = 0
		return []action{{act: actFinish}}
	}
	return nil
}

func (e *engine) widen(grace time.Duration) { e.grace = max(e.grace, grace) }

// shorten moves the phase's deadline earlier, or sets the first one.
func (e *engine) shorten(at instant) {
	if e.deadline == 0 || at < e.deadline {
		e.deadline = at
	}
}

// stop forwards the signal. The first one starts the deadline, each further one shortens it to what the keepers need.
// CONT follows, because a stopped agent would keep the signal pending until its deadline.
func (e *engine) stop(from phase, ev event, now instant) []action {
	e.stops++
	forward := []action{{act: actSignal, signal: ev.signal}, {act: actSignal, signal: sigCONT}}
	if from != stopping {
		e.deadline = now + e.stopTimeout
		return append(forward, action{act: actTellStopping})
	}
	if e.stops > 1 {
		e.shorten(now + e.grace + hurrySlack)
	}
	return forward
}

// budget takes the agent's own word for when everything should be gone; after a second stop signal it can only shorten.
func (e *engine) budget(from phase, span time.Duration, now instant) []action {
	at := now + span + budgetSlack
	if e.stops > 1 {
		e.shorten(at)
	} else {
		e.deadline = at
	}
	if from == stopping {
		return nil
	}
	return []action{{act: actTellStopping}}
}

// drained asks the service manager for time, but only when fewer calls run than at the last such beat.
func (e *engine) drained(ev event, now instant) []action {
	if !ev.draining {
		return nil
	}
	progress := e.drainLeft >= 0 && ev.calls < e.drainLeft
	if e.drainLeft < 0 || progress {
		e.drainLeft = ev.calls
	}
	if !progress || e.deadline <= now {
		return nil
	}
	return []action{{act: actExtend, span: e.deadline - now + e.grace + extendSlack}}
}
