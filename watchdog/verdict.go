package watchdog

import (
	"strconv"
	"time"
)

// verdict is why an agent is silent. Only hung is acted on.
type verdict uint8

const (
	suspended verdict = iota // the host slept, or this process was not run: nobody can be judged
	coredump                 // it is dying already; the kernel writes its memory first
	stopped                  // SIGSTOP or a terminal
	traced                   // a debugger holds it
	frozen                   // its cgroup is frozen
	starved                  // it wants a processor, or its memory back, and does not get it
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
	window    time.Duration // between the two samples of the threads
	late      time.Duration // how long after its time the judgement began
	slept     time.Duration // suspend time since the last beat
	state     byte          // of the main thread, from proc/PID/stat; 0 if unreadable
	dumping   bool          // CoreDumping: 1 in proc/PID/status
	frozen    bool          // its cgroup is frozen, of either version, or the main thread waits in the freezer
	waits     bool          // some thread did not get its turn in the window, see schedstat.waits
	throttled time.Duration // how long a processor quota kept it from running in the window
	faults    uint64        // major faults in the window: what it needed was not in memory
	ran       time.Duration // processor time of all threads in this silence, but for what came before it was stopped, frozen, …
	wasHeld   bool          // it was held when the window began
	was       verdict       // then: coredump, stopped, traced or frozen
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

// enough is the processor time after which a process that has not beaten is not starved: a beat takes less than a
// millisecond of it, so it had its turn hundreds of times. It bounds for how long a load hides a hang: an agent that burns a processor of
// which it gets one part in fifty is found after 25 s.
const enough = 500 * time.Millisecond

// pageTime is what a major fault may take on a host that has no memory left; a process that waits for its pages all the time has one each.
const pageTime = 500 * time.Millisecond

// starved says that the process did not get what a beat takes.
func (e *evidence) starved() bool {
	paging := e.faults > 0 && time.Duration(min(e.faults, 1<<20))*pageTime >= e.window
	throttled := e.throttled > 0 && e.throttled*2 >= e.window
	return e.ran < enough && (e.waits || paging || throttled)
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
	case e.starved():
		return starved
	}
	return hung
}

// String is the evidence in a few words, for the line that names the verdict.
func (e *evidence) String() string {
	text := "state " + string(rune(max(e.state, '?'))) + ", ran " + e.ran.Round(time.Millisecond).String() + " since it was asked first"
	if e.waits {
		text += ", waits for a processor"
	}
	if e.throttled > 0 {
		text += ", throttled for " + e.throttled.Round(time.Millisecond).String() + " of " + e.window.Round(time.Millisecond).String()
	}
	if e.faults > 0 {
		text += ", " + strconv.FormatUint(e.faults, 10) + " major faults"
	}
	if e.late > lateLimit || e.slept > sleepLimit {
		text += ", judged " + e.late.Round(time.Millisecond).String() + " late, host asleep for " + e.slept.Round(time.Millisecond).String()
	}
	return text
}

// schedstat is what a thread had of the processors, or the growth of that in a window: one line of proc/PID/task/TID/schedstat.
type schedstat struct {
	cpu   time.Duration // ran
	delay time.Duration // waited in a run queue; counted when the wait ends
	turns uint64        // was switched to
}

func (u schedstat) minus(was schedstat) schedstat {
	return schedstat{u.cpu - was.cpu, u.delay - was.delay, u.turns - was.turns}
}

const (
	// longTurn is the average wait for a turn from which a thread counts as waiting. A thread that goes to sleep by itself waits 5 ms
	// among 50 busy ones per processor, one that works 25 ms; one of SCHED_IDLE waits seconds.
	longTurn = 100 * time.Millisecond
	// workTurn is what a thread that works uses of each turn on average; one that only looks whether there is work uses a tenth.
	workTurn = 500 * time.Microsecond
)

// waits reports whether a thread that ran this much within the window, and is in this state now, lacked a processor: the beat may be
// what it should have done. A thread that gets its turn and goes to sleep again lacks nothing, however often it has to queue.
func (u schedstat) waits(window time.Duration, state byte) bool {
	switch {
	case u.turns == 0:
		return state == 'R' && u.cpu*20 < window // queued since the window began, or as good as that
	case u.delay > time.Duration(u.turns)*longTurn:
		return true
	}
	return u.cpu > time.Duration(u.turns)*workTurn && u.delay > u.cpu && (u.cpu+u.delay)*5 >= window*4
}
