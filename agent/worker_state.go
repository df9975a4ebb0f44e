package agent

import "fmt"

// workerState is where a worker is in its life. The table below is the machine; its words are those of `status` and the
// metric labels.
type workerState string

const (
	stateStarting workerState = "starting" // out by ready, or by timeouts.start
	stateReady    workerState = "ready"    // out by a call, a verdict, an order
	stateBusy     workerState = "busy"     // out by the call's end or deadline
	stateHeld     workerState = "held"     // stopped, frozen or blocked: gets no call; out by an answer or held_limit/blocked_limit
	stateDraining workerState = "draining" // its call may end; out by its exit or timeouts.drain
	stateStopping workerState = "stopping" // condemned; out by the ladder, which ends in KILL
	// stateUnkillable is a process that outlives KILL, as in uninterruptible sleep; out by its exit. It has a substitute.
	stateUnkillable workerState = "unkillable"
	stateGone       workerState = "gone" // the process is dead; only its keeper may still be at work
)

// workerEventKind is what can happen to a worker.
type workerEventKind string

const (
	eventReady     workerEventKind = "ready"
	eventCallBegan workerEventKind = "call began"
	eventCallEnded workerEventKind = "call ended"
	eventHold      workerEventKind = "hold"
	eventWelcome   workerEventKind = "welcome"
	eventDrain     workerEventKind = "drain"
	eventKill      workerEventKind = "kill"
	eventOutlives  workerEventKind = "outlives KILL"
	eventExited    workerEventKind = "exited"
)

var workerStates = [...]workerState{stateStarting, stateReady, stateBusy, stateHeld, stateDraining, stateStopping, stateUnkillable, stateGone}

var workerEvents = [...]workerEventKind{eventReady, eventCallBegan, eventCallEnded, eventHold, eventWelcome, eventDrain, eventKill, eventOutlives, eventExited}

// workerMachine is the table: what is absent is an error and changes nothing. It is never written to.
var workerMachine = map[workerState]map[workerEventKind]workerState{
	stateStarting: {eventReady: stateReady, eventHold: stateHeld, eventDrain: stateStopping, eventKill: stateStopping, eventExited: stateGone},
	stateReady:    {eventCallBegan: stateBusy, eventHold: stateHeld, eventDrain: stateDraining, eventKill: stateStopping, eventExited: stateGone},
	stateBusy:     {eventCallEnded: stateReady, eventHold: stateHeld, eventDrain: stateDraining, eventKill: stateStopping, eventExited: stateGone},
	// A held worker's call may end while it is held (the answer was in the socket): it stays held until it answers a ping.
	// One that is held while it starts is ready only then, too.
	stateHeld:     {eventReady: stateHeld, eventCallEnded: stateHeld, eventWelcome: stateReady, eventDrain: stateDraining, eventKill: stateStopping, eventExited: stateGone},
	stateDraining: {eventReady: stateDraining, eventCallEnded: stateDraining, eventHold: stateDraining, eventWelcome: stateDraining, eventDrain: stateDraining, eventKill: stateStopping, eventExited: stateGone},
	stateStopping: {eventReady: stateStopping, eventHold: stateStopping, eventWelcome: stateStopping, eventDrain: stateStopping, eventKill: stateStopping, eventOutlives: stateUnkillable, eventExited: stateGone},
	// Every order to end it was given; what its interpreter still says is said by nobody who comes back.
	stateUnkillable: {eventReady: stateUnkillable, eventHold: stateUnkillable, eventWelcome: stateUnkillable, eventDrain: stateUnkillable, eventKill: stateUnkillable, eventExited: stateGone},
	stateGone:       {eventOutlives: stateGone}, // what it has left behind does
}

func (s workerState) next(event workerEventKind) (workerState, error) {
	to, ok := workerMachine[s][event]
	if !ok {
		return s, &transitionError{s, event}
	}
	return to, nil
}

// transitionError is an event that has no place in a state: a fault of pitboss, never of user code.
type transitionError struct {
	state workerState
	event workerEventKind
}

func (e *transitionError) Error() string {
	return fmt.Sprintf("a worker that is %q cannot take %q", string(e.state), string(e.event))
}
