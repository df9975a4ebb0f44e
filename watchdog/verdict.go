package watchdog

import "time"

// verdict is why an agent is silent. Only hung is acted on.
type verdict uint8

const (
	suspended verdict = iota // the host slept, or this process was not run: nobody can be judged
	coredump                 // it is dying already; the kernel writes its memory first
	stopped                  // SIGSTOP or a terminal
	traced                   // a debugger holds it
	frozen                   // its cgroup is frozen
	starved                  // it wants a processor and gets none
	hung                     // it could run and does not
	verdictCount
)

func (v verdict) String() string {
	return [...]string{"suspended", "coredump", "stopped", "traced", "frozen", "starved", "hung"}[v]
}

const (
	// lateLimit is how late the own loop may be before a judgement is void: whoever delayed it delayed the agent too.
	lateLimit = 500 * time.Millisecond
	// sleepLimit is how far CLOCK_BOOTTIME may run ahead of CLOCK_MONOTONIC in a window; more is a suspended host.
	sleepLimit = 100 * time.Millisecond
)

// evidence is what was seen about a silent agent. The zero value says nothing in its favour.
type evidence struct {
	window  time.Duration // between the two samples of run delay
	late    time.Duration // how long after its time the judgement began
	slept   time.Duration // suspend time since the last beat
	state   byte          // of the main thread, from proc/PID/stat; 0 if unreadable
	dumping bool          // CoreDumping: 1 in proc/PID/status
	frozen  bool          // cgroup.events says frozen 1, or the main thread waits in the freezer
	delay   time.Duration // growth of the run delay, summed over the threads (schedstat, second field)
	queued  bool          // some thread is runnable and used next to no processor time in the window
	wasHeld bool          // it was held when the window began
	was     verdict       // then: coredump, stopped, traced or frozen
}

// held is what keeps the process from running at this moment.
func (e *evidence) held() (verdict, bool) {
	switch {
	case e.dumping:
		return coredump, true
	case e.state == 'T':
		return stopped, true
	case e.state == 't':
		return traced, true
	case e.frozen:
		return frozen, true
	}
	return 0, false
}

// judge names the reason for the silence. Host first, then the process, then the processor; whatever is left is a hang. A process
// that was let go within the window has not had the time to beat: it is asked again after the next one.
func judge(e evidence) verdict {
	now, isHeld := e.held()
	switch {
	case e.late > lateLimit || e.slept > sleepLimit:
		return suspended
	case isHeld:
		return now
	case e.wasHeld:
		return e.was
	case e.queued || e.delay*5 >= e.window*4 && e.window > 0:
		return starved
	}
	return hung
}
