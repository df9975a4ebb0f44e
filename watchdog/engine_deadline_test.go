package watchdog

import (
	"testing"
	"time"
)

func TestEngineStopDeadlines(t *testing.T) {
	feed := func(e engine, now instant, evs ...event) engine {
		for _, ev := range evs {
			e, _, _ = e.step(ev, now)
		}
		return e
	}
	stop := event{kind: evStop, signal: 15}
	for _, c := range []struct {
		what string
		e    engine
		want instant
	}{
		{"the first stop", feed(engineIn(t, running, 0), time.Second, stop), time.Second + testStopTimeout},
		{"the second", feed(engineIn(t, running, 0), time.Second, stop, stop), time.Second + time.Second + hurrySlack},
		{"the third, later", feed(feed(engineIn(t, running, 0), time.Second, stop, stop), 2*time.Second, stop), time.Second + time.Second + hurrySlack},
		{"a stop before HELLO", feed(newEngine(testAgentTimeout, testStopTimeout), time.Second, stop), time.Second + testStopTimeout},
		{"a budget after the first", feed(engineIn(t, running, 0), time.Second, stop, event{kind: evBudget, span: time.Minute}), time.Second + time.Minute + budgetSlack},
		{"a longer budget after the second", feed(engineIn(t, running, 0), time.Second, stop, stop, event{kind: evBudget, span: time.Minute}), time.Second + time.Second + hurrySlack},
		{"a shorter budget after the second", feed(engineIn(t, running, 0), time.Second, stop, stop, event{kind: evBudget, span: time.Second}), time.Second + time.Second + budgetSlack},
		{"the agent's own stop", feed(engineIn(t, running, 0), time.Second, event{kind: evBudget, span: 3 * time.Second}), time.Second + 3*time.Second + budgetSlack},
		{"a stop after the agent's own", feed(engineIn(t, running, 0), time.Second, event{kind: evBudget, span: time.Minute}, stop), time.Second + time.Minute + budgetSlack},
		{"a goodbye", feed(engineIn(t, running, 0), time.Second, event{kind: evBye}), time.Second + byeGrace},
		{"a goodbye after a stop", feed(engineIn(t, running, 0), time.Second, stop, event{kind: evBye}), time.Second + byeGrace},
		{"an abort", feed(engineIn(t, running, 0), time.Second, event{kind: evAbort}), time.Second + abortGrace},
		{"a kill", feed(engineIn(t, running, 0), time.Second, event{kind: evAbort}, event{kind: evDeadline}), time.Second + killBound},
		{"keepers of the longest grace", feed(engineIn(t, running, 0), time.Second, event{kind: evPool, span: 7 * time.Second}, event{kind: evPool, span: 2 * time.Second}, event{kind: evDied}), time.Second + 7*time.Second + ladderSlack},
		{"a sweep", feed(engineIn(t, waiting, 0), time.Second, event{kind: evDeadline}), time.Second + killBound},
		{"a sweep that finds more", feed(engineIn(t, sweeping, 0), 3*time.Second, event{kind: evSwept}), 3*time.Second + killBound},
		{"a sweep that finds more for ever", feed(engineIn(t, sweeping, 0), 29*time.Second, event{kind: evSwept}), sweepLimit},
	} {
		if at, _ := c.e.next(); at != c.want {
			t.Errorf("%s: due at %v, want %v", c.what, at, c.want)
		}
	}
}

// Half of the silence takes the baseline, all of it asks; a beat at any time begins anew, and so does a reason.
func TestEngineSilence(t *testing.T) {
	at := func(e engine, want instant) engine {
		t.Helper()
		due, kind := e.next()
		if due != want || kind != evSilence {
			t.Fatalf("due: %v at %v, want silence at %v", kind, due, want)
		}
		e, todo, _ := e.step(event{kind: kind}, due)
		t.Logf("%v: %s", due, acts(todo))
		return e
	}
	e := engineIn(t, running, time.Second)
	e = at(e, time.Second+testAgentTimeout/2)
	e, _, _ = e.step(event{kind: evBeat}, 6*time.Second)
	e = at(e, 6*time.Second+testAgentTimeout/2)
	if !e.sampled {
		t.Fatal("no baseline at half of the silence")
	}
	due, kind := e.next()
	if due != 6*time.Second+testAgentTimeout || kind != evSilence {
		t.Fatalf("%v at %v", kind, due)
	}
	judged, todo, _ := e.step(event{kind: evSilence}, due)
	if acts(todo) != "judge" {
		t.Fatalf("at all of the silence: %q", acts(todo))
	}
	held, todo, _ := judged.step(event{kind: evHeld}, due)
	if len(todo) != 0 || held.phase != running {
		t.Fatalf("held: %v %q", held.phase, acts(todo))
	}
	at(held, due+testAgentTimeout/2)
	hungE, todo, _ := judged.step(event{kind: evHung}, due)
	if hungE.phase != aborting || acts(todo) != "ABRT" {
		t.Fatalf("hung: %v %q", hungE.phase, acts(todo))
	}
}

// Time is asked for only by a draining beat in stopping with fewer calls than the fewest before.
func TestEngineExtendsWithProgressOnly(t *testing.T) {
	stop, _, _ := engineIn(t, running, 0).step(event{kind: evStop, signal: 15}, time.Second)
	for _, c := range []struct {
		calls string // of the beats, one a second; * is a beat that is not draining
		want  string // which of them ask
	}{
		{"3", "."}, {"33", ".."}, {"32", ".x"}, {"3210", ".xxx"}, {"3454", "...."}, {"3231", ".x.x"}, {"3*2", "..x"}, {"**", ".."}, {"0", "."}, {"10", ".x"},
	} {
		e, got := stop, ""
		for i, ch := range c.calls {
			now := time.Duration(i+2) * time.Second
			before := e.deadline
			var todo []action
			e, todo, _ = e.step(event{kind: evBeat, draining: ch != '*', calls: int64(ch - '0')}, now)
			if len(todo) == 0 {
				got += "."
				continue
			}
			got += "x"
			if a := todo[0]; len(todo) != 1 || a.act != actExtend || a.span != before-now+e.grace+extendSlack || a.span <= 0 {
				t.Errorf("%q: %+v", c.calls, todo)
			}
		}
		if got != c.want {
			t.Errorf("beats %q: %q, want %q", c.calls, got, c.want)
		}
	}
	late, todo, _ := func() (engine, []action, bool) {
		e, _, _ := stop.step(event{kind: evBeat, draining: true, calls: 3}, 2*time.Second)
		return e.step(event{kind: evBeat, draining: true, calls: 2}, e.deadline+time.Second)
	}()
	if len(todo) != 0 {
		t.Errorf("an overdue %v asks for time: %+v", late.phase, todo)
	}
	if e, todo, _ := engineIn(t, running, 0).step(event{kind: evBeat, draining: true, calls: 3}, time.Second); len(todo) != 0 || e.drainLeft != -1 {
		t.Errorf("a beat while running: %+v", todo)
	}
}
