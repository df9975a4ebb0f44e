package heartbeat

import (
	"fmt"
	"time"
)

// ownSlack is the lateness of the caller's own loop up to which a turn is judged.
const ownSlack = 500 * time.Millisecond

// maxPending bounds the pings that wait in a busy worker's socket.
const maxPending = 16

// Monitor watches one worker. It is owned by one goroutine; the zero value is of no use, see New.
type Monitor struct {
	cfg    Config
	random func() float64 // in [0,1), for the jitter

	due     time.Duration   // of the next turn
	pending []time.Duration // stamps of unanswered pings, oldest first; a stamp is its sending time
	missed  int             // pings missed in a row
	suspect int             // of these, since the last excuse
	since   time.Duration   // the last excuse; silence counts from here at the earliest

	verdict Verdict
	reached time.Duration // when verdict became what it is
	holding bool          // Hold was given and not yet followed by Welcome
	told    bool          // Kill or Tell was given
	called  bool          // a call ran at the last miss

	lastPong time.Duration
	rtt      time.Duration
	answered bool
}

// New returns a monitor whose first ping is due at now + initial_delay. random gives numbers in [0,1); nil means no jitter.
func New(cfg Config, now time.Duration, random func() float64) *Monitor {
	if random == nil {
		random = func() float64 { return 0.5 }
	}
	return &Monitor{cfg: cfg, random: random, due: now + cfg.InitialDelay, since: now, reached: now}
}

// Due is the time of the next turn.
func (m *Monitor) Due() time.Duration {
	limit := time.Duration(0)
	switch {
	case m.told:
	case m.verdict == Held:
		limit = m.reached + m.cfg.HeldLimit
	case m.verdict == Blocked:
		limit = m.silenceSince() + m.cfg.BlockedLimit
	}
	if limit > 0 && limit < m.due {
		return limit
	}
	return m.due
}

// Unanswered says whether a ping is out: then the next turn needs evidence.
func (m *Monitor) Unanswered() bool { return len(m.pending) > 0 }

// Decision is the outcome of a turn or an answer.
type Decision struct {
	Action Action
	// Changed is true when the verdict is another one than before; From is the one before.
	Changed  bool
	From, To Verdict
	// Why is the evidence in a few words, for log and error.
	Why string
	// Ping says that a ping with the stamp `now` must be sent.
	Ping bool
}

// Turn is called when Due is reached. Evidence is looked at only if a ping is unanswered.
func (m *Monitor) Turn(now time.Duration, e Evidence) Decision {
	late := max(now-m.Due(), 0) // also at the limit of a held or blocked worker, which may come before the next ping
	m.due = now + m.interval()
	if len(m.pending) == 0 {
		return m.ping(now, Decision{From: m.verdict, To: m.verdict})
	}
	m.missed++
	m.suspect++
	verdict, why := m.judge(now, &e, max(late, e.Lateness))
	if verdict == Late && (e.Now.heldBy() != "" || e.InFlight && m.suspect > 0) {
		m.due = now + m.interval()/2 // a fact only has to last, and a call that rests is seen as well in half the time
	}
	m.called = e.InFlight
	d := m.become(verdict, now, why)
	d.Action = m.act(now)
	if m.verdict == Held || m.verdict == Blocked || m.told {
		return d
	}
	return m.ping(now, d)
}

// Answered is called for each PONG. ok is false for a stamp that is not out: never sent, or answered already.
func (m *Monitor) Answered(stamp, now time.Duration) (d Decision, ok bool) {
	at := -1
	for i, s := range m.pending {
		if s == stamp {
			at = i
		}
	}
	if at < 0 {
		return Decision{From: m.verdict, To: m.verdict}, false
	}
	// The socket keeps the order, so what is older than this one will not be answered any more.
	m.pending = append(m.pending[:0], m.pending[at+1:]...)
	m.rtt, m.lastPong, m.answered = now-stamp, now, true
	m.missed, m.suspect, m.since, m.called = 0, 0, now, false
	d = m.become(Healthy, now, fmt.Sprintf("answered after %s", m.rtt.Round(time.Microsecond)))
	if m.holding && !m.told {
		m.holding = false
		d.Action = Welcome
		m.due = now + m.interval()
	}
	return d, true
}

// judge is the table of verdicts. That a process is stopped, traced or frozen is a fact, however late we look; what is measured
// over a time is void when we were late.
func (m *Monitor) judge(now time.Duration, e *Evidence, lateness time.Duration) (Verdict, string) {
	fact, held := e.Now.heldBy(), ""
	if !e.InFlight || e.Progress() == "" {
		held = e.throttled() // a call that gets on below its quota is busy, however slow
	}
	if held == "" && !e.InFlight && e.Now.State == 'D' && e.starved() == "" {
		held = waitsForStorage // nobody can end it there, and nothing comes
	}
	first := e.Before.At == 0 && !e.Before.Readable // no sample of the turn before: nothing can be compared
	switch {
	case e.Suspended:
		return m.excused(Late, now, "the host was suspended")
	case fact != "":
		return m.unlessEarly(now, Held, fact)
	case lateness > ownSlack:
		return m.excused(Late, now, fmt.Sprintf("our own loop was %s late", lateness.Round(time.Millisecond)))
	case held != "":
		return m.unlessEarly(now, Held, held)
	case m.verdict == Held && e.Now.Readable:
		return m.excused(Late, now, "runs again")
	case !e.Now.Readable:
		return m.unlessEarly(now, Held, "its state cannot be read")
	case first:
		return Late, "first miss"
	}
	if e.InFlight {
		if moved := e.Progress(); moved != "" {
			return m.excused(Busy, now, moved)
		}
		return m.unlessEarly(now, Blocked, fmt.Sprintf("a call holds the interpreter without progress (state %c)", e.Now.State))
	}
	if m.called {
		return m.excused(Late, now, "its call has ended") // the answer to the ping comes after the call's
	}
	if starved := e.starved(); starved != "" {
		return m.excused(Late, now, "starved: "+starved)
	}
	return m.unlessEarly(now, Lost, fmt.Sprintf("no call and no answer (state %c)", e.Now.State))
}

// excused starts suspicion anew.
func (m *Monitor) excused(v Verdict, now time.Duration, why string) (Verdict, string) {
	m.suspect, m.since = 0, now
	return v, why
}

// unlessEarly gives the verdict only after max_missed unexcused misses or a silence of timeout.
func (m *Monitor) unlessEarly(now time.Duration, v Verdict, why string) (Verdict, string) {
	silence := now - m.silenceSince()
	why = fmt.Sprintf("%s; %d pings missed, silent for %s", why, m.missed, silence.Round(time.Millisecond))
	if m.suspect >= m.cfg.MaxMissed || silence >= m.cfg.Timeout {
		return v, why
	}
	return Late, why
}

func (m *Monitor) silenceSince() time.Duration {
	if len(m.pending) == 0 {
		return m.since
	}
	return max(m.pending[0], m.since)
}

func (m *Monitor) become(v Verdict, now time.Duration, why string) Decision {
	d := Decision{From: m.verdict, To: v, Changed: v != m.verdict, Why: why}
	if d.Changed {
		m.verdict, m.reached = v, now
	}
	return d
}

// act gives the action of the present verdict, each once.
func (m *Monitor) act(now time.Duration) Action {
	over := false
	switch m.verdict {
	case Lost:
		over = true
	case Held:
		over = now-m.reached >= m.cfg.HeldLimit
	case Blocked:
		over = now-m.silenceSince() >= m.cfg.BlockedLimit
	}
	switch {
	case over && !m.told:
		m.told = true
		if m.cfg.OnLost == Report {
			return Tell
		}
		return Kill
	case (m.verdict == Held || m.verdict == Blocked) && !m.holding:
		m.holding = true
		return Hold
	}
	return None
}

func (m *Monitor) ping(now time.Duration, d Decision) Decision {
	if len(m.pending) < maxPending {
		m.pending = append(m.pending, now)
		d.Ping = true
	}
	return d
}

// interval is the time to the next turn: interval ± jitter.
func (m *Monitor) interval() time.Duration {
	spread := float64(m.cfg.Interval) * m.cfg.Jitter
	return m.cfg.Interval + time.Duration((2*m.random()-1)*spread)
}

// Status is the monitor's view for display.
type Status struct {
	Verdict  Verdict
	Missed   int
	RTT      time.Duration // of the last answer
	LastPong time.Duration // age of the last answer; −1 when there was none
}

// Status is the state at now.
func (m *Monitor) Status(now time.Duration) Status {
	s := Status{Verdict: m.verdict, Missed: m.missed, RTT: m.rtt, LastPong: -1}
	if m.answered {
		s.LastPong = now - m.lastPong
	}
	return s
}
