package watchdog

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// everyPair is the whole machine, written down a second time: per phase (in their order), for every event (in theirs), the next
// phase and what is to be done; "-" is an event that cannot happen there. TERM stands for the stop signal that came.
var everyPair = [phaseCount]string{
	starting: `
		hello running | pool starting | beat starting | budget stopping tell | bye stopping | stop stopping TERM CONT tell | forward starting HUP |
		abort aborting ABRT | silence - | held - | hung - | deadline - | died waiting scan | ended sweeping scan | swept - | empty -`,
	running: `
		hello - | pool running | beat running | budget stopping tell | bye stopping | stop stopping TERM CONT tell | forward running HUP |
		abort aborting ABRT | silence running sample | held running | hung aborting ABRT | deadline - | died waiting scan | ended sweeping scan | swept - | empty -`,
	stopping: `
		hello stopping | pool stopping | beat stopping | budget stopping | bye stopping | stop stopping TERM CONT | forward stopping HUP |
		abort aborting ABRT | silence - | held - | hung - | deadline killing KILL | died waiting scan | ended sweeping scan | swept - | empty -`,
	aborting: `
		hello aborting | pool aborting | beat aborting | budget aborting | bye aborting | stop aborting | forward aborting |
		abort aborting | silence - | held - | hung - | deadline killing KILL | died waiting scan | ended - | swept - | empty -`,
	killing: `
		hello killing | pool killing | beat killing | budget killing | bye killing | stop killing | forward killing |
		abort killing | silence - | held - | hung - | deadline sweeping scan | died waiting scan | ended - | swept - | empty -`,
	waiting: `
		hello - | pool - | beat - | budget - | bye - | stop waiting | forward waiting |
		abort waiting | silence - | held - | hung - | deadline sweeping scan | died - | ended - | swept - | empty done finish`,
	sweeping: `
		hello sweeping | pool sweeping | beat sweeping | budget sweeping | bye sweeping | stop sweeping | forward sweeping |
		abort sweeping | silence - | held - | hung - | deadline done finish | died sweeping | ended - | swept sweeping | empty done finish`,
	done: `
		hello - | pool - | beat - | budget - | bye - | stop - | forward - |
		abort - | silence - | held - | hung - | deadline - | died - | ended - | swept - | empty -`,
}

const (
	testAgentTimeout = 8 * time.Second
	testStopTimeout  = 45 * time.Second
)

// engineIn is an engine that came into a phase by its shortest way, at the time at.
func engineIn(t *testing.T, p phase, at instant) engine {
	t.Helper()
	way := map[phase][]event{
		running:  {{kind: evHello, span: time.Second}},
		stopping: {{kind: evHello, span: time.Second}, {kind: evStop, signal: 15}},
		aborting: {{kind: evHello, span: time.Second}, {kind: evHung}},
		killing:  {{kind: evHello, span: time.Second}, {kind: evHung}, {kind: evDeadline}},
		waiting:  {{kind: evHello, span: time.Second}, {kind: evDied}},
		sweeping: {{kind: evHello, span: time.Second}, {kind: evDied}, {kind: evDeadline}},
		done:     {{kind: evHello, span: time.Second}, {kind: evDied}, {kind: evEmpty}},
	}[p]
	e := newEngine(testAgentTimeout, testStopTimeout)
	for _, ev := range way {
		var ok bool
		if e, _, ok = e.step(ev, at); !ok {
			t.Fatalf("%v is unexpected on the way to %v", ev.kind, p)
		}
	}
	if e.phase != p {
		t.Fatalf("the way to %v ends in %v", p, e.phase)
	}
	return e
}

func acts(todo []action) string {
	var words []string
	for _, a := range todo {
		word := [...]string{"signal", "sample", "judge", "tell", "extend", "scan", "finish"}[a.act]
		if a.act == actSignal {
			word = map[int]string{1: "HUP", 6: "ABRT", 9: "KILL", 15: "TERM", 18: "CONT"}[a.signal]
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// anEvent of a kind, as the loop would feed it.
func anEvent(k eventKind) event {
	ev := event{kind: k}
	switch k {
	case evStop:
		ev.signal = 15
	case evForward:
		ev.signal = 1
	case evHello, evPool, evBudget:
		ev.span = 2 * time.Second
	}
	return ev
}

func TestEngineEveryPair(t *testing.T) {
	for p := range phaseCount {
		cells := strings.Split(everyPair[p], "|")
		if len(cells) != int(eventCount) {
			t.Fatalf("%v: %d cells for %d events", p, len(cells), eventCount)
		}
		for k := range eventCount {
			want := strings.Fields(cells[k])
			if want[0] != k.String() {
				t.Fatalf("%v: cell %d is for %q, want %v", p, k, want[0], k)
			}
			// A death in starting is the command's own end, because no HELLO came; in both phases before an end is decided
			// the two kinds are fed as they are.
			e := engineIn(t, p, time.Minute)
			if k == evDied {
				e.hello = true
			}
			next, todo, expected := e.step(anEvent(k), time.Minute+time.Second)
			if want[1] == "-" {
				if expected || len(todo) > 0 || next != e {
					t.Errorf("%v × %v: it changes something: %+v, %v", p, k, next, acts(todo))
				}
				continue
			}
			if !expected || next.phase.String() != want[1] || acts(todo) != strings.Join(want[2:], " ") {
				t.Errorf("%v × %v: %v %q (expected %v), want %v", p, k, next.phase, acts(todo), expected, want[1:])
			}
		}
	}
}

// An announced end, and the end of a command that never was an agent, are ended; every other death is died.
func TestEngineOwnWill(t *testing.T) {
	for _, hello := range []bool{false, true} {
		for _, bye := range []int{-1, 0, 3} {
			for _, cause := range []string{"", "hang"} {
				e := engineIn(t, stopping, 0)
				e.hello, e.bye, e.cause = hello, bye, cause
				next, _, ok := e.step(event{kind: evDied}, time.Second)
				want := waiting
				if cause == "" && (bye >= 0 || !hello) {
					want = sweeping
				}
				if !ok || next.phase != want {
					t.Errorf("hello %v, bye %d, cause %q: %v, want %v", hello, bye, cause, next.phase, want)
				}
			}
		}
	}
}

// Every phase in which the engine waits has a moment at which it moves on by itself; starting waits for a command that may
// say nothing for ever, and moves on when that ends.
func TestEngineAlwaysMovesOn(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for walk := range 3000 {
		e, now := newEngine(testAgentTimeout, testStopTimeout), instant(time.Minute)
		for step := range 60 {
			at, kind := e.next()
			switch {
			case e.phase == done:
			case e.phase == starting:
				if at != 0 {
					t.Fatalf("walk %d: starting has the deadline %v", walk, at)
				}
			case at == 0:
				t.Fatalf("walk %d step %d: %v waits for nothing: %+v", walk, step, e.phase, e)
			}
			due, _, ok := e.step(event{kind: kind}, max(now, at))
			if e.phase != starting && e.phase != done && (!ok || e.phase != running && due.phase == e.phase) {
				t.Fatalf("walk %d step %d: %v stays in %v when it is due", walk, step, kind, e.phase)
			}
			now += time.Duration(random.Int64N(int64(3 * time.Second)))
			ev := anEvent(eventKind(random.IntN(int(eventCount))))
			ev.span = time.Duration(random.Int64N(int64(time.Minute)))
			ev.draining, ev.calls = random.IntN(2) == 0, random.Int64N(5)
			before := e
			e, _, _ = e.step(ev, now)
			if before.phase == stopping && e.phase == stopping && e.stops > 1 && e.deadline > before.deadline {
				t.Fatalf("walk %d step %d: %v moves the deadline from %v to %v after a second stop", walk, step, ev.kind, before.deadline, e.deadline)
			}
			if e.grace < before.grace {
				t.Fatalf("walk %d step %d: %v takes grace away", walk, step, ev.kind)
			}
		}
	}
}

// From every phase the end comes within a bound when nothing but time happens after a stop.
func TestEngineEndsInBoundedTime(t *testing.T) {
	for p := running; p < done; p++ {
		e, now := engineIn(t, p, 0), instant(0)
		if p == running {
			e, _, _ = e.step(event{kind: evStop, signal: 15}, now)
		}
		for range 10 {
			if e.phase == done {
				break
			}
			at, kind := e.next()
			now = at
			e, _, _ = e.step(event{kind: kind}, now)
		}
		if bound := testStopTimeout + 2*killBound + abortGrace + e.grace + ladderSlack; e.phase != done || now > bound {
			t.Errorf("from %v: %v after %v, want done within %v", p, e.phase, now, bound)
		}
	}
}

func TestEngineCause(t *testing.T) {
	for _, c := range []struct {
		evs  []eventKind
		want string
	}{
		{[]eventKind{evHello, evDied}, ""},
		{[]eventKind{evHello, evHung, evDeadline, evDied}, "hang"},
		{[]eventKind{evHello, evAbort, evDeadline, evDied}, "abort"},
		{[]eventKind{evHello, evStop, evAbort, evDied}, "abort"},
		{[]eventKind{evHello, evStop, evDeadline, evDied}, "stop timeout"},
		{[]eventKind{evAbort, evDied}, "abort"},
	} {
		e := newEngine(testAgentTimeout, testStopTimeout)
		for _, k := range c.evs {
			e, _, _ = e.step(anEvent(k), time.Second)
		}
		if e.cause != c.want {
			t.Errorf("%v: cause %q, want %q", c.evs, e.cause, c.want)
		}
	}
}

func TestNamesOfPhasesAndEvents(t *testing.T) {
	seen := map[string]bool{}
	for p := range phaseCount {
		seen["phase "+p.String()] = true
	}
	for k := range eventCount {
		seen["event "+k.String()] = true
	}
	for v := range verdictCount {
		seen["verdict "+v.String()] = true
	}
	if want := int(phaseCount) + int(eventCount) + int(verdictCount); len(seen) != want || seen["phase "] {
		t.Errorf("%d distinct names, want %d: %s", len(seen), want, fmt.Sprint(seen))
	}
}
