package watchdog

import "time"

const (
	// sweepLimit bounds the whole sweep, however many new children appear: a fork bomb loses long before.
	sweepLimit = 30 * time.Second
	// scanEvery is the pause between two looks at the children while they are being killed. A death of ours is a SIGCHLD
	// and looked at at once; the pause is for what has no signal, a cgroup that becomes empty.
	scanEvery = 10 * time.Millisecond
)

// ladder remembers whom the sweep has killed. A pid is in it while it is an unreaped child, so the number is unique.
type ladder struct {
	sent   map[int32]bool
	killed int // processes that got KILL, ever
}

// victims returns the children that must get KILL: in the phase sweeping all that have not got it yet, in any other none.
// An agent that is still alive then is one of them.
func (l *ladder) victims(p phase, children []int32) []int32 {
	if p != sweeping {
		return nil
	}
	var fresh []int32
	for _, pid := range children {
		if !l.sent[pid] {
			if l.sent == nil {
				l.sent = map[int32]bool{}
			}
			l.sent[pid] = true
			l.killed++
			fresh = append(fresh, pid)
		}
	}
	return fresh
}

// reaped forgets a pid: its number may come back as another child.
func (l *ladder) reaped(pid int32) { delete(l.sent, pid) }

// view is what one look at the tree saw.
type view struct {
	childless bool // wait4 said ECHILD
	populated bool // some pool's cgroup still holds a process
	fresh     int  // children that were killed in this look for the first time
}

// conclude is the event that follows from a look at the tree, if any. No child is a proof only together with empty
// cgroups: a process that was moved in from elsewhere is nobody's descendant, yet it belongs to the pool.
func conclude(v view) (eventKind, bool) {
	switch {
	case v.childless && !v.populated:
		return evEmpty, true
	case v.fresh > 0:
		return evSwept, true
	}
	return 0, false
}

// outcome is what is known when the watchdog finishes.
type outcome struct {
	exited    bool // the agent exited, code is its status; else it was ended by a signal or never died
	code      int
	hello     bool
	bye       int    // announced exit code, -1 without one
	cause     string // why the watchdog ended it, "" if it did not
	killed    int
	survivors int
}

const (
	exitOK       = 0
	exitUsage    = 64 // EX_USAGE of sysexits.h
	exitNotFound = 69 // EX_UNAVAILABLE: the command does not exist
	exitInternal = 70 // EX_SOFTWARE: the agent died, or something is left; the service manager restarts
	exitLocked   = 75 // EX_TEMPFAIL: another watchdog holds the lock
)

// exitCode: what the agent announced, or the status of a command that never was an agent, or 70.
func (o outcome) exitCode() int {
	switch {
	case o.survivors > 0 || o.cause != "":
		return exitInternal
	case o.bye >= 0:
		return o.bye
	case !o.hello && o.exited:
		return o.code
	}
	return exitInternal
}

// certified reports whether a death certificate is due: for every death that was not announced, and for every end that left
// something to kill.
func (o outcome) certified() bool {
	if o.killed > 0 || o.survivors > 0 || o.cause != "" {
		return true
	}
	return o.bye < 0 && (o.hello || !o.exited)
}
