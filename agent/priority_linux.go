package agent

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// NiceEnv names the niceness of what is watched. A watchdog that has raised its own, and with it the agent's, sets it.
const NiceEnv = "PITBOSS_NICE"

// niceness is that of the agent's side and of what it watches, both -20 to 19 (sched(7)).
type niceness struct{ own, watched int }

// raisedNiceness is nil where the watchdog has raised nothing: then everything stays as it was started.
func raisedNiceness(text string) *niceness {
	watched, err := strconv.Atoi(text)
	if err != nil || watched < -20 || watched > 19 {
		return nil
	}
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return nil
	}
	return &niceness{own: 20 - raw, watched: watched} // the system call adds 20 and turns the sign, so that no result is an error
}

// ownNiceness is what a launcher takes when it has preloaded; nil is what it has.
func (n *niceness) ownNiceness() *int {
	if n == nil {
		return nil
	}
	return &n.own
}

// leave gives this thread, and every process that it makes, the niceness of what is watched.
func (n *niceness) leave() {
	if n != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, n.watched)
	}
}
