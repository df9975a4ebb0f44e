package watchdog

import (
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// Every combination of evidence. What is in the agent's favour is written down per verdict; the first one in the order of
// the verdicts wins, and hung is what is left when there is none.
func TestJudgeEveryCombination(t *testing.T) {
	const window = 4 * time.Second
	favour := map[verdict]func(evidence) bool{
		suspended: func(e evidence) bool { return e.late > 500*time.Millisecond || e.slept > 100*time.Millisecond },
		coredump:  func(e evidence) bool { return e.dumping },
		stopped:   func(e evidence) bool { return e.state == 'T' },
		traced:    func(e evidence) bool { return e.state == 't' },
		frozen:    func(e evidence) bool { return e.frozen },
		starved: func(e evidence) bool {
			lacks := e.waits || e.throttled > 0 && 2*e.throttled >= e.window || e.faults > 0 && float64(e.faults) >= 2*e.window.Seconds()
			return lacks && e.ran < 500*time.Millisecond
		},
	}
	seen := map[verdict]int{}
	check := func(e evidence) {
		want := hung
		for v := hung; v > 0; v-- {
			if v == starved && e.wasHeld {
				want = e.was // what held it within the window excuses a process that nothing holds now
			}
			if favour[v-1](e) {
				want = v - 1
			}
		}
		if got := judge(e); got != want {
			t.Fatalf("%+v: %v, want %v", e, got, want)
		}
		seen[want]++
	}
	for _, w := range []time.Duration{0, window} {
		for _, late := range []time.Duration{0, lateLimit, lateLimit + 1, time.Hour} {
			for _, slept := range []time.Duration{0, sleepLimit, sleepLimit + 1} {
				for _, state := range []byte{0, 'R', 'S', 'D', 'T', 't', 'Z', 'X', 'I'} {
					for _, throttled := range []time.Duration{0, window/2 - 1, window / 2, 3 * window} {
						for _, faults := range []uint64{0, 7, 8, 1 << 60} {
							for _, ran := range []time.Duration{0, enough - 1, enough, time.Hour} {
								for bits := range 16 {
									check(evidence{window: w, late: late, slept: slept, state: state, throttled: throttled, faults: faults, ran: ran,
										dumping: bits&1 != 0, frozen: bits&2 != 0, waits: bits&4 != 0, wasHeld: bits&8 != 0, was: traced})
								}
							}
						}
					}
				}
			}
		}
	}
	if len(seen) != int(verdictCount) {
		t.Errorf("the combinations reach only %v", seen)
	}
	if judge(evidence{}) != hung {
		t.Error("no evidence is no excuse")
	}
}

// What a thread shows in a window of four seconds, as it was measured among 50 busy threads per processor where a number is odd.
func TestWhatAThreadThatLacksAProcessorShows(t *testing.T) {
	const window = 4 * time.Second
	ms := func(n float64) time.Duration { return time.Duration(n * float64(time.Millisecond)) }
	for _, c := range []struct {
		name  string
		grown schedstat
		state byte
		want  bool
	}{
		{"asleep all the time", schedstat{}, 'S', false},
		{"alone on its processor all the time, never switched", schedstat{window, 0, 0}, 'R', false},
		{"queued all the time", schedstat{}, 'R', true},
		{"queued, after the end of a turn", schedstat{ms(1), 0, 0}, 'R', true},
		{"the runtime's monitor under load, asleep", schedstat{ms(6), ms(795.9), 322}, 'S', false},
		{"the same, queued at this moment", schedstat{ms(6), ms(795.9), 322}, 'R', false},
		{"looks for work under load", schedstat{ms(1.9), ms(406.9), 34}, 'S', false},
		{"looks for work under four times that load", schedstat{ms(6), ms(3600), 90}, 'R', false},
		{"a turn every second", schedstat{ms(3), ms(3990), 4}, 'R', true},
		{"one turn, after a long wait", schedstat{ms(1), ms(101), 1}, 'S', true},
		{"one turn, after a wait that is not long", schedstat{ms(1), ms(100), 1}, 'S', false},
		{"works and gets one part in fifty", schedstat{ms(80), ms(3920), 60}, 'R', true},
		{"works and gets one part in three", schedstat{ms(1300), ms(2700), 400}, 'R', true},
		{"works and gets half", schedstat{ms(2000), ms(2000), 400}, 'R', false},
		{"works now and then", schedstat{ms(80), ms(3000), 60}, 'S', false},
	} {
		if got := c.grown.waits(window, c.state); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestThrottlingBetweenTwoLooks(t *testing.T) {
	const window = 4 * time.Second
	for _, c := range []struct {
		name     string
		was, now throttling
		want     time.Duration
	}{
		{"no quota", throttling{}, throttling{}, 0},
		{"ended in the window", throttling{time.Second, 5}, throttling{3 * time.Second, 25}, 2 * time.Second},
		{"none since", throttling{time.Second, 5}, throttling{time.Second, 5}, 0},
		{"one that has not ended", throttling{time.Second, 5}, throttling{time.Second, 45}, window},
	} {
		if got := c.now.between(c.was, window); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestSchedstatAndFaultsAreRead(t *testing.T) {
	if got, ok := parseSchedstat("6572169 247320050 12\n"); !ok || got != (schedstat{6572169, 247320050, 12}) {
		t.Errorf("%+v %v", got, ok)
	}
	for _, text := range []string{"", "1", "1 2"} {
		if _, ok := parseSchedstat(text); ok {
			t.Errorf("%q was taken", text)
		}
	}
	for text, want := range map[string]uint64{"": 0, "1 (x) S": 0, "7 (a b) R) S 1 2 3 4 5 6 7 8 9 10": 9, "7 (x) S 1 2 3 4 5 6 7 8 x 10": 0} {
		if got := majorFaults(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// A process that is let go just before it is judged has had no time to beat; one window later it has.
func TestAProcessThatWasLetGoIsNotJudgedYet(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	p := openProc(cmd.Process.Pid)
	defer p.close()
	stateBecomes := func(stopped bool) {
		t.Helper()
		for end := time.Now().Add(patience); (statState(readFD(p.stat)) == 'T') != stopped; {
			if time.Now().After(end) {
				t.Fatalf("state %q", statState(readFD(p.stat)))
			}
		}
	}
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	asleep := func() { // not starved by a loaded machine
		for end := time.Now().Add(patience); statState(readFD(p.stat)) != 'S' && time.Now().Before(end); {
			<-time.After(time.Millisecond)
		}
	}
	verdictNow := func() verdict { return judge(p.collect(monotonic(), 0)) }

	signal(syscall.SIGSTOP)
	stateBecomes(true)
	p.sample(monotonic(), false)
	if v := verdictNow(); v != stopped {
		t.Errorf("while stopped: %v", v)
	}
	signal(syscall.SIGCONT)
	stateBecomes(false)
	if v := verdictNow(); v != stopped {
		t.Errorf("just let go: %v, it had no time to beat", v)
	}
	asleep()
	p.sample(monotonic(), false)
	<-time.After(50 * time.Millisecond) // the window
	if v := verdictNow(); v != hung {
		t.Errorf("a window later: %v", v)
	}
}

func TestStatState(t *testing.T) {
	for text, want := range map[string]byte{
		"12 (pitboss) S 1 12": 'S', "12 (a) R b) T 1": 'T', "12 (\n) t 1": 't', "": 0, "12 (x)": 0, "12 (x) ": 0, "no parenthesis R": 0,
	} {
		if got := statState(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
