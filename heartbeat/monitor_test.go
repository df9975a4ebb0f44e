package heartbeat

import (
	"strings"
	"testing"
	"time"
)

const second = time.Second

// sampleAt is a readable sample of a process with a main and a control thread (tids 1 and 2).
func sampleAt(at time.Duration, state byte, cpu, delay time.Duration) Sample {
	return Sample{At: at, Readable: true, State: state, Threads: []Thread{{TID: 1, CPU: cpu, RunDelay: delay}, {TID: 2, CPU: at / 100}}}
}

// drive takes a monitor from an answered ping at t=0 through turns with evidence made by f, until end; it returns the
// decisions by the second in which they fell.
func drive(t *testing.T, cfg Config, end time.Duration, f func(now, before time.Duration) Evidence) map[time.Duration]Decision {
	t.Helper()
	m := New(cfg, 0, nil)
	if d := m.Turn(0, Evidence{}); !d.Ping {
		t.Fatal("the first turn does not ping")
	}
	if _, ok := m.Answered(0, 0); !ok {
		t.Fatal("the first answer is not known")
	}
	out := map[time.Duration]Decision{}
	before := time.Duration(0)
	for now := m.Due(); now <= end; now = m.Due() {
		e := Evidence{}
		if m.Unanswered() {
			e = f(now, before)
		}
		d := m.Turn(now, e)
		out[now] = d
		before = now
		if m.Due() <= now {
			t.Fatalf("stuck at %s: next turn at %s", now, m.Due())
		}
	}
	return out
}

func defaults() Config { c := Default(); c.Jitter = 0; return c }

// idle, blocked … are what a silent worker of that kind shows.
func kind(inFlight bool, state byte, cpuShare, delayShare float64) func(now, before time.Duration) Evidence {
	return func(now, before time.Duration) Evidence {
		e := Evidence{InFlight: inFlight, ControlTID: 2}
		e.Now = sampleAt(now, state, time.Duration(cpuShare*float64(now)), time.Duration(delayShare*float64(now)))
		if before > 2*second { // the turn at 2 s sends the first ping that is missed, so the first sample is that of 4 s
			e.Before = sampleAt(before, state, time.Duration(cpuShare*float64(before)), time.Duration(delayShare*float64(before)))
		}
		return e
	}
}

func TestVerdictsAndTheirTimesAtTheDefaults(t *testing.T) {
	type step struct {
		at     time.Duration
		to     Verdict
		action Action
	}
	for _, c := range []struct {
		name     string
		evidence func(now, before time.Duration) Evidence
		steps    []step
	}{
		{"idle and silent is lost at the third miss", kind(false, 'S', 0, 0),
			[]step{{4 * second, Late, None}, {6 * second, Late, None}, {8 * second, Lost, Kill}, {10 * second, Lost, None}}},
		{"stopped is held at the third miss and killed after held_limit", kind(false, 'T', 0, 0),
			[]step{{4 * second, Late, None}, {5 * second, Late, None}, {6 * second, Held, Hold}, {64 * second, Held, None}, {66 * second, Held, Kill}}},
		{"stopped in a call is held, not blocked", kind(true, 'T', 0, 0), []step{{6 * second, Held, Hold}}},
		{"a call without progress is blocked, killed when the silence is blocked_limit", kind(true, 'S', 0, 0),
			[]step{{4 * second, Late, None}, {5 * second, Late, None}, {6 * second, Blocked, Hold}, {12 * second, Blocked, Kill}}},
		{"a call that burns is busy for as long as it does", kind(true, 'R', 1, 0),
			[]step{{4 * second, Late, None}, {5 * second, Busy, None}, {7 * second, Busy, None}, {69 * second, Busy, None}}},
		{"just above five percent is progress", kind(true, 'S', 0.051, 0), []step{{5 * second, Busy, None}}},
		{"just below is not", kind(true, 'S', 0.049, 0), []step{{6 * second, Blocked, Hold}}},
		{"starved to 80 percent is progress", kind(true, 'R', 0.019, 0.782), []step{{5 * second, Busy, None}}},
		{"GIL waiters under load are not", kind(true, 'S', 0.0015, 0.33), []step{{6 * second, Blocked, Hold}}},
		{"an idle worker that is starved is not judged", kind(false, 'R', 0.01, 0.9), []step{{8 * second, Late, None}, {60 * second, Late, None}}},
		{"waiting for storage is progress", kind(true, 'D', 0, 0), []step{{5 * second, Busy, None}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := drive(t, defaults(), 70*second, c.evidence)
			for _, s := range c.steps {
				d, ok := got[s.at]
				if !ok || d.To != s.to || d.Action != s.action {
					t.Errorf("at %s: %v %v (turn: %v), want %v %v; why %q", s.at, d.To, d.Action, ok, s.to, s.action, d.Why)
				}
			}
		})
	}
}

func TestHeldWorkerThatAnswersIsWelcomedOnce(t *testing.T) {
	for _, between := range []string{"answers at once", "runs again first"} {
		m := New(defaults(), 0, nil)
		m.Turn(0, Evidence{})
		m.Answered(0, 0)
		now, before := m.Due(), time.Duration(0)
		for ; m.verdict != Held; now = m.Due() {
			m.Turn(now, kind(false, 'T', 0, 0)(now, before))
			before = now
		}
		if between == "runs again first" {
			d := m.Turn(now, kind(false, 'S', 0, 0)(now, before))
			if d.To != Late || !d.Ping {
				t.Fatalf("a worker that runs again is %v and pinged: %v", d.To, d.Ping)
			}
		}
		d, ok := m.Answered(2*second, now+second)
		if !ok || d.Action != Welcome || d.To != Healthy {
			t.Fatalf("%s: answer gives %v %v", between, d.To, d.Action)
		}
		if d, _ := m.Answered(4*second, now+second); d.Action != None {
			t.Fatalf("%s: welcomed twice", between)
		}
	}
}

func TestABusyWorkerThatStopsMovingGetsItsWholeLimit(t *testing.T) {
	got := drive(t, defaults(), 60*second, func(now, before time.Duration) Evidence {
		cpu := min(now, 20*second) // burns until 20 s, then sleeps with the GIL held
		e := Evidence{InFlight: true, ControlTID: 2, Now: sampleAt(now, 'S', cpu, 0)}
		if before > 2*second {
			e.Before = sampleAt(before, 'S', min(before, 20*second), 0)
		}
		return e
	})
	if d := got[21*second]; d.To != Busy {
		t.Errorf("at 21 s: %v", d.To)
	}
	if d := got[25*second]; d.To != Blocked || d.Action != Hold {
		t.Errorf("at 25 s: %v %v (%s)", d.To, d.Action, d.Why)
	}
	if d := got[31*second]; d.Action != Kill {
		t.Errorf("at 31 s: %v %v (%s)", d.To, d.Action, d.Why)
	}
}

// TestTheEndOfACallIsAnExcuse: the misses of a call that held the interpreter say nothing about the idle worker that it leaves.
func TestTheEndOfACallIsAnExcuse(t *testing.T) {
	got := drive(t, defaults(), 20*second, func(now, before time.Duration) Evidence {
		return kind(now < 6*second, 'S', 0, 0)(now, before)
	})
	if d := got[6*second]; d.To != Late || d.Action != None || d.Why != "its call has ended" {
		t.Errorf("at 6 s: %v %v (%s)", d.To, d.Action, d.Why)
	}
	if d := got[10*second]; d.To != Late || d.Action != None {
		t.Errorf("at 10 s: %v %v (%s)", d.To, d.Action, d.Why)
	}
	if d := got[12*second]; d.To != Lost || d.Action != Kill {
		t.Errorf("at 12 s: %v %v (%s)", d.To, d.Action, d.Why)
	}
}

func TestReportNeverKills(t *testing.T) {
	cfg := defaults()
	cfg.OnLost = Report
	told := 0
	for at, d := range drive(t, cfg, 100*second, kind(false, 'S', 0, 0)) {
		if d.Action == Kill {
			t.Errorf("killed at %s", at)
		}
		if d.Action == Tell {
			told++
		}
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

func TestUnknownAndLateStampsAreIgnored(t *testing.T) {
	m := New(defaults(), 0, nil)
	m.Turn(0, Evidence{})
	for _, stamp := range []time.Duration{1, -1, second} {
		if _, ok := m.Answered(stamp, second); ok {
			t.Errorf("stamp %d was taken", stamp)
		}
	}
	if _, ok := m.Answered(0, second); !ok {
		t.Error("the real one was not")
	}
	if _, ok := m.Answered(0, second); ok {
		t.Error("the same stamp was taken twice")
	}
	if s := m.Status(3 * second); s.RTT != second || s.LastPong != 2*second || s.Verdict != Healthy {
		t.Errorf("status %+v", s)
	}
}

func TestJitterStaysInItsShare(t *testing.T) {
	cfg := Default()
	for _, r := range []float64{0, 0.25, 0.999999} {
		m := New(cfg, 0, func() float64 { return r })
		m.Turn(0, Evidence{})
		if d := m.Due(); d < 1800*time.Millisecond || d > 2200*time.Millisecond {
			t.Errorf("random %g: next turn at %s", r, d)
		}
	}
}

func TestEveryVerdictAndActionHasItsNames(t *testing.T) {
	table := MarkdownTable()
	for _, v := range Verdicts() {
		if v.String() == "" || strings.HasPrefix(v.String(), "Verdict(") || !strings.Contains(table, "| "+v.String()+" |") {
			t.Errorf("verdict %d: %q", v, v)
		}
	}
	if len(Verdicts()) != len(verdicts) || Verdict(99).String() != "Verdict(99)" || Verdict(-1).String() != "Verdict(-1)" {
		t.Error("names are not total")
	}
	for a := None; a <= Tell; a++ {
		if a.String() == "" {
			t.Errorf("action %d has no name", a)
		}
	}
}

func TestConfig(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Fatal(err)
	}
	for key, change := range map[string]func(*Config){
		"heartbeat.interval":      func(c *Config) { c.Interval = second - 1 },
		"heartbeat.timeout":       func(c *Config) { c.Timeout = 301 * second },
		"heartbeat.max_missed":    func(c *Config) { c.MaxMissed = 11; c.Timeout = 300 * second },
		"heartbeat.initial_delay": func(c *Config) { c.InitialDelay = -1 },
		"heartbeat.jitter":        func(c *Config) { c.Jitter = 0.51 },
		"heartbeat.on_lost":       func(c *Config) { c.OnLost = "ignore" },
		"heartbeat.held_limit":    func(c *Config) { c.HeldLimit = 0 },
		"heartbeat.blocked_limit": func(c *Config) { c.BlockedLimit = 25 * time.Hour },
	} {
		c := Default()
		change(&c)
		err := c.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), key+":") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", key, err)
		}
	}
	c := Default()
	c.MaxMissed, c.Jitter = 6, 2
	if err := c.Validate(); err == nil || strings.Count(err.Error(), "\n") != 1 || !strings.Contains(err.Error(), "interval × max_missed") {
		t.Errorf("two faults give %v", err)
	}
}
