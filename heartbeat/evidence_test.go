package heartbeat

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain: the detector starts no goroutine.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEvidenceOfEveryKind(t *testing.T) {
	base := func() Evidence { return kind(true, 'S', 0, 0)(8*second, 6*second) }
	for _, c := range []struct {
		name string
		set  func(*Evidence)
		want Verdict
	}{
		{"none", func(*Evidence) {}, Blocked},
		{"traced flag", func(e *Evidence) { e.Now.Traced = true }, Held},
		{"traced state", func(e *Evidence) { e.Now.State = 't' }, Held},
		{"frozen", func(e *Evidence) { e.Now.Frozen = true }, Held},
		{"throttled", func(e *Evidence) { e.Now.ThrottledFor = second }, Held},
		{"throttled without an end", func(e *Evidence) { e.Now.Throttles = 20 }, Held},
		{"throttled without an end, long ago", func(e *Evidence) { e.Now.Throttles, e.Before.Throttles = 20, 20 }, Blocked},
		{"throttled now and then", func(e *Evidence) { e.Now.Throttles, e.Now.ThrottledFor = 20, 20*time.Millisecond }, Blocked},
		{"throttled a little less", func(e *Evidence) { e.Now.ThrottledFor = second - 1 }, Blocked},
		{"throttled, but the call gets on", func(e *Evidence) { e.Now.ThrottledFor = second; e.Now.Threads[0].CPU = second / 5 }, Busy},
		{"throttled and idle", func(e *Evidence) { e.Now.ThrottledFor, e.InFlight = second, false }, Held},
		{"throttled and starved", func(e *Evidence) {
			e.Now.ThrottledFor, e.InFlight, e.Now.Threads[0].RunDelay = second, false, 2*second
		}, Held},
		{"throttled long ago", func(e *Evidence) { e.Now.ThrottledFor, e.Before.ThrottledFor = second, second }, Blocked},
		{"throttled, but no sample before", func(e *Evidence) { e.Now.ThrottledFor, e.Before = second, Sample{} }, Late},
		{"storage", func(e *Evidence) { e.Now.State = 'D' }, Busy},
		{"storage and idle", func(e *Evidence) { e.Now.State, e.InFlight = 'D', false }, Held},
		{"storage and idle, and something comes", func(e *Evidence) { e.Now.State, e.Now.MajorFlt, e.InFlight = 'D', 1, false }, Late},
		{"major fault and idle", func(e *Evidence) { e.Now.MajorFlt, e.InFlight = 1, false }, Late},
		{"bytes read and idle", func(e *Evidence) { e.Now.ReadBytes, e.InFlight = 1, false }, Late},
		{"no turn", func(e *Evidence) { e.Now.Threads[0].State = 'R' }, Busy},
		{"a turn", func(e *Evidence) { e.Now.Threads[0].State, e.Now.Threads[0].Turns = 'R', 1 }, Blocked},
		{"no turn for the control thread", func(e *Evidence) { e.Now.Threads[1].State = 'R' }, Blocked},
		{"no turn for the control thread and idle", func(e *Evidence) { e.Now.Threads[1].State, e.InFlight = 'R', false }, Late},
		{"a turn and idle", func(e *Evidence) { e.Now.Threads[1].State, e.Now.Threads[1].Turns, e.InFlight = 'R', 1, false }, Lost},
		{"no turn and frozen", func(e *Evidence) { e.Now.Threads[0].State, e.Now.Frozen = 'R', true }, Held},
		{"frozen in the state of storage", func(e *Evidence) { e.Now.State, e.Now.Frozen = 'D', true }, Held},
		{"starved", func(e *Evidence) { e.Now.Threads[0].RunDelay = 2 * second }, Busy},
		{"starved and idle", func(e *Evidence) { e.Now.Threads[0].RunDelay, e.InFlight = 2*second, false }, Late},
		{"suspended and idle", func(e *Evidence) { e.Suspended, e.InFlight = true, false }, Late},
		{"suspended and stopped", func(e *Evidence) { e.Suspended, e.Now.State = true, 'T' }, Late},
		{"own loop late and stopped", func(e *Evidence) { e.Lateness, e.Now.State = time.Hour, 'T' }, Held},
		{"own loop late and throttled", func(e *Evidence) { e.Lateness, e.Now.ThrottledFor = ownSlack+1, second }, Late},
		{"own loop late and idle", func(e *Evidence) { e.Lateness, e.InFlight = ownSlack+1, false }, Late},
		{"stopped", func(e *Evidence) { e.Now.State = 'T' }, Held},
		{"stopped and idle", func(e *Evidence) { e.Now.State, e.InFlight = 'T', false }, Held},
		{"traced and idle", func(e *Evidence) { e.Now.Traced, e.InFlight = true, false }, Held},
		{"frozen and idle", func(e *Evidence) { e.Now.Frozen, e.InFlight = true, false }, Held},
		{"frozen and moving", func(e *Evidence) { e.Now.Frozen, e.Now.Threads[0].CPU = true, second }, Held},
		{"unreadable", func(e *Evidence) { e.Now = Sample{At: 8 * second} }, Held},
		{"unreadable and idle", func(e *Evidence) { e.Now = Sample{At: 8 * second}; e.InFlight = false }, Held},
		{"major fault", func(e *Evidence) { e.Now.MajorFlt = 1 }, Busy},
		{"bytes read", func(e *Evidence) { e.Now.ReadBytes = 1 }, Busy},
		{"suspended", func(e *Evidence) { e.Suspended = true }, Late},
		{"own loop late", func(e *Evidence) { e.Lateness = ownSlack + 1 }, Late},
		{"own loop just not late", func(e *Evidence) { e.Lateness = ownSlack }, Blocked},
		{"control thread burns", func(e *Evidence) { e.Now.Threads[1].CPU += second }, Blocked},
		{"new thread", func(e *Evidence) { e.Now.Threads = append(e.Now.Threads, Thread{TID: 9, CPU: second}) }, Blocked},
		{"idle", func(e *Evidence) { e.InFlight = false }, Lost},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := New(defaults(), 0, nil)
			m.pending, m.suspect, m.missed = []time.Duration{2 * second}, 2, 2
			m.due = 8 * second
			e := base()
			c.set(&e)
			if d := m.Turn(8*second, e); d.To != c.want {
				t.Errorf("verdict %v (%s), want %v", d.To, d.Why, c.want)
			}
		})
	}
}

// The table: every kind of evidence, with and without a call, against every verdict before it. What the detector says
// next depends on the verdict before only where a held process runs again.
func TestEveryVerdictMeetsEveryEvidence(t *testing.T) {
	kinds := []struct {
		name         string
		set          func(*Evidence)
		idle, inCall Verdict
	}{
		{"nothing", func(*Evidence) {}, Lost, Blocked},
		{"stopped", func(e *Evidence) { e.Now.State = 'T' }, Held, Held},
		{"traced", func(e *Evidence) { e.Now.Traced = true }, Held, Held},
		{"frozen", func(e *Evidence) { e.Now.Frozen = true }, Held, Held},
		{"throttled", func(e *Evidence) { e.Now.ThrottledFor = 2 * second }, Held, Held},
		{"unreadable", func(e *Evidence) { e.Now = Sample{At: e.Now.At} }, Held, Held},
		{"cpu", func(e *Evidence) { e.Now.Threads[0].CPU = second }, Late, Busy},
		{"run delay", func(e *Evidence) { e.Now.Threads[0].RunDelay = 2 * second }, Late, Busy},
		{"no turn", func(e *Evidence) { e.Now.Threads[0].State = 'R' }, Late, Busy},
		{"storage", func(e *Evidence) { e.Now.State = 'D' }, Held, Busy},
		{"major faults", func(e *Evidence) { e.Now.MajorFlt = 1 }, Late, Busy},
		{"bytes read", func(e *Evidence) { e.Now.ReadBytes = 1 }, Late, Busy},
		{"suspended", func(e *Evidence) { e.Suspended = true }, Late, Late},
		{"late loop", func(e *Evidence) { e.Lateness = second }, Late, Late},
		{"no sample before", func(e *Evidence) { e.Before = Sample{} }, Late, Late},
	}
	actions := map[Verdict]Action{Late: None, Busy: None, Held: Hold, Blocked: Hold, Lost: Kill}
	for _, was := range Verdicts() {
		for _, k := range kinds {
			for _, inCall := range []bool{false, true} {
				m := New(defaults(), 0, nil)
				m.pending, m.suspect, m.missed, m.verdict, m.reached, m.due, m.since = []time.Duration{2 * second}, 2, 2, was, 7*second, 8*second, 2*second
				m.holding = was == Held || was == Blocked
				m.told = was == Lost
				e := kind(inCall, 'S', 0, 0)(8*second, 6*second)
				k.set(&e)
				want := k.idle
				if inCall {
					want = k.inCall
				}
				if was == Held && want != Held && e.Now.Readable {
					want = Late // runs again
				}
				action := actions[want]
				if m.holding && action == Hold || m.told && action == Kill {
					action = None // given already
				}
				d := m.Turn(8*second, e)
				if d.To != want || d.Action != action || d.From != was || d.Changed != (was != want) {
					t.Errorf("%v, %s, in a call %v: %v %v (%s), want %v %v", was, k.name, inCall, d.To, d.Action, d.Why, want, action)
				}
			}
		}
	}
}
