package watchdog

// verb is what a rule does besides changing the phase; engine.perform is its meaning.
type verb uint8

const (
	vIgnore  verb = iota // expected and without consequence
	vGreet               // HELLO: note the grace, start to listen for beats
	vWiden               // a longer grace
	vBeat                // silence is over
	vDrained             // a beat of a draining agent
	vBudget              // the agent says when it wants to be gone
	vBye                 // the agent says how it will exit
	vStop                // forward, start or shorten the deadline
	vForward             // pass a signal on
	vSuspect             // silence: first a baseline, then the question why
	vHeld                // silent for a reason: listen again
	vAbort               // ABRT for the stacks
	vKill                // KILL the agent
	vWait                // let the keepers run their ladders
	vSweep               // kill every child
	vSwept               // a KILL was sent: death may take killBound from here
	vFinish              // certificate and exit
	verbCount
)

type rule struct {
	on   eventKind
	to   phase
	verb verb
}

// rules lists, per phase, every event that may happen in it. What is absent cannot happen; if it does it changes nothing.
func rules(p phase) []rule {
	switch p {
	case starting:
		return []rule{
			{evHello, running, vGreet}, {evPool, starting, vWiden}, {evBeat, starting, vIgnore},
			{evBudget, stopping, vBudget}, {evBye, stopping, vBye},
			{evStop, stopping, vStop}, {evForward, starting, vForward}, {evAbort, aborting, vAbort},
			{evDied, waiting, vWait}, {evEnded, sweeping, vSweep},
		}
	case running:
		return []rule{
			{evPool, running, vWiden}, {evBeat, running, vBeat},
			{evBudget, stopping, vBudget}, {evBye, stopping, vBye},
			{evStop, stopping, vStop}, {evForward, running, vForward}, {evAbort, aborting, vAbort},
			{evSilence, running, vSuspect}, {evHeld, running, vHeld}, {evHung, aborting, vAbort},
			{evDied, waiting, vWait}, {evEnded, sweeping, vSweep},
		}
	case stopping:
		return []rule{
			{evHello, stopping, vGreet}, {evPool, stopping, vWiden}, {evBeat, stopping, vDrained},
			{evBudget, stopping, vBudget}, {evBye, stopping, vBye},
			{evStop, stopping, vStop}, {evForward, stopping, vForward}, {evAbort, aborting, vAbort},
			{evDeadline, killing, vKill},
			{evDied, waiting, vWait}, {evEnded, sweeping, vSweep},
		}
	case aborting:
		return append(deaf(aborting),
			rule{evDeadline, killing, vKill},
			rule{evDied, waiting, vWait})
	case killing:
		return append(deaf(killing),
			rule{evDeadline, sweeping, vSweep},
			rule{evDied, waiting, vWait})
	case waiting:
		return []rule{
			{evStop, waiting, vIgnore}, {evForward, waiting, vIgnore}, {evAbort, waiting, vIgnore},
			{evDeadline, sweeping, vSweep}, {evEmpty, done, vFinish},
		}
	case sweeping:
		// An agent that outlived its KILL may still die here.
		return append(deaf(sweeping),
			rule{evDied, sweeping, vIgnore},
			rule{evSwept, sweeping, vSwept},
			rule{evDeadline, done, vFinish}, rule{evEmpty, done, vFinish})
	}
	return nil
}

// deaf lists what an agent may still say, and an operator still ask, when its end is decided.
func deaf(p phase) []rule {
	return []rule{
		{evHello, p, vIgnore}, {evPool, p, vWiden}, {evBeat, p, vIgnore}, {evBudget, p, vIgnore}, {evBye, p, vIgnore},
		{evStop, p, vIgnore}, {evForward, p, vIgnore}, {evAbort, p, vIgnore},
	}
}

func ruleFor(p phase, k eventKind) (rule, bool) {
	// The one event that comes without end; it must not allocate (see TestBeatsCostNoMemory).
	if p == running && k == evBeat {
		return rule{evBeat, running, vBeat}, true
	}
	for _, r := range rules(p) {
		if r.on == k {
			return r, true
		}
	}
	return rule{}, false
}
