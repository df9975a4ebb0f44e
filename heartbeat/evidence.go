package heartbeat

import (
	"fmt"
	"time"
)

// Thread is one thread's share of the processor so far: the fields of /proc/PID/task/TID/schedstat, and its state.
type Thread struct {
	TID      int
	State    byte          // as in /proc/PID/task/TID/stat; 0 if unreadable
	CPU      time.Duration // ran
	RunDelay time.Duration // was runnable and waited for a processor; a wait counts when it ends
	Turns    uint64        // was given a processor
}

// Sample is what the kernel said of a worker at one moment.
type Sample struct {
	At       time.Duration
	Readable bool // schedstat and state could be read
	State    byte // of the main thread, as in /proc/PID/stat: R, S, D, T, t, Z, …
	Traced   bool
	Frozen   bool // its cgroup is frozen
	// ThrottledFor is how long its cgroup has been kept from running by a CPU quota so far, summed over the processors.
	// A throttling counts when it ends.
	ThrottledFor time.Duration
	Throttles    uint64 // periods of such a quota that ended with nothing left, so far
	Threads      []Thread
	MajorFlt     uint64 // major page faults so far
	ReadBytes    uint64 // bytes read from storage so far
}

// Evidence is everything that a turn with a missed ping is judged by.
type Evidence struct {
	InFlight   bool // a call runs inside its deadline
	ControlTID int  // the control thread, whose own wake-ups prove nothing
	// Before is the sample of the turn before; the zero value when there was none.
	Before, Now Sample
	Suspended   bool          // the host slept since the last turn
	Lateness    time.Duration // how late the caller's own loop came to this turn
}

const (
	// cpuShare: a thread that ran for this share of the time made progress.
	cpuShare = 0.05
	// wantShare: a thread that ran or waited for a processor for this share of the time would have made progress: the
	// host is starved, not the worker stuck. Threads that wait for the GIL wake every 5 ms and stay below 35 %.
	wantShare = 0.80
	// throttledShare: a process whose cgroup was kept from running for this share of the time is held by its quota.
	throttledShare = 0.50
)

// heldBy names what keeps the process from running, empty when nothing does.
func (s *Sample) heldBy() string {
	switch {
	case s.Traced || s.State == 't':
		return "traced"
	case s.State == 'T':
		return "stopped"
	case s.Frozen:
		return "frozen"
	}
	return ""
}

// throttled says how much of the time the quota kept the process from running, empty below throttledShare. Without a
// sample of the turn before nothing can be said.
func (e *Evidence) throttled() string {
	elapsed := e.Now.At - e.Before.At
	grown := e.Now.ThrottledFor - e.Before.ThrottledFor
	if grown == 0 && e.Now.Throttles > e.Before.Throttles {
		grown = elapsed // one that has begun before and goes on
	}
	if !e.Before.Readable || elapsed <= 0 || float64(grown) < throttledShare*float64(elapsed) {
		return ""
	}
	return fmt.Sprintf("throttled for %.0f %% of the time", 100*float64(grown)/float64(elapsed))
}

// Progress says what moved between the two samples, empty when nothing did; only with other threads than the control
// thread, because that one burns 8–11 ms/s by itself while it waits for the GIL.
func (e *Evidence) Progress() string {
	if e.Now.State == 'D' {
		return waitsForStorage
	}
	if paged := e.paged(); paged != "" {
		return paged
	}
	return e.running(func(tid int) bool { return tid != e.ControlTID })
}

const waitsForStorage = "waits for storage (D)"

// paged says what came from storage between the two samples: pages that had left the memory, or bytes that somebody read.
func (e *Evidence) paged() string {
	if e.Now.MajorFlt > e.Before.MajorFlt {
		return fmt.Sprintf("%d major faults", e.Now.MajorFlt-e.Before.MajorFlt)
	}
	if e.Now.ReadBytes > e.Before.ReadBytes {
		return fmt.Sprintf("%d bytes read", e.Now.ReadBytes-e.Before.ReadBytes)
	}
	return ""
}

// starved says what an idle process lacked: some thread, the control thread too, waited for a processor nearly all the time, or the
// pages that an answer needs were not in memory.
func (e *Evidence) starved() string {
	if text := e.running(func(int) bool { return true }); text != "" {
		return text
	}
	return e.paged()
}

func (e *Evidence) running(counts func(tid int) bool) string {
	elapsed := float64(e.Now.At - e.Before.At)
	if elapsed <= 0 {
		return ""
	}
	before := make(map[int]Thread, len(e.Before.Threads))
	for _, t := range e.Before.Threads {
		before[t.TID] = t
	}
	for _, t := range e.Now.Threads {
		was, known := before[t.TID]
		if !known || !counts(t.TID) {
			continue
		}
		cpu := float64(t.CPU-was.CPU) / elapsed
		want := cpu + float64(t.RunDelay-was.RunDelay)/elapsed
		if cpu >= cpuShare || want >= wantShare {
			return fmt.Sprintf("thread %d ran %.1f %% and waited %.1f %%", t.TID, 100*cpu, 100*(want-cpu))
		}
		// Its wait is in no figure yet. One that waits for the GIL has hundreds of turns.
		if t.State == 'R' && t.Turns == was.Turns {
			return fmt.Sprintf("thread %d is runnable and had no turn", t.TID)
		}
	}
	return ""
}
