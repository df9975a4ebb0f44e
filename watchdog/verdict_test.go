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
		starved:   func(e evidence) bool { return e.queued || e.window > 0 && float64(e.delay) >= 0.8*float64(e.window) },
	}
	seen := map[verdict]int{}
	for _, w := range []time.Duration{0, window} {
		for _, late := range []time.Duration{0, lateLimit, lateLimit + 1, time.Hour} {
			for _, slept := range []time.Duration{0, sleepLimit, sleepLimit + 1} {
				for _, state := range []byte{0, 'R', 'S', 'D', 'T', 't', 'Z', 'X', 'I'} {
					for _, delay := range []time.Duration{0, window*8/10 - 1, window * 8 / 10, 3 * window} {
						for bits := range 16 {
							e := evidence{window: w, late: late, slept: slept, state: state, delay: delay,
								dumping: bits&1 != 0, frozen: bits&2 != 0, queued: bits&4 != 0, wasHeld: bits&8 != 0, was: traced}
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
	p.sample(monotonic())
	if v := verdictNow(); v != stopped {
		t.Errorf("while stopped: %v", v)
	}
	signal(syscall.SIGCONT)
	stateBecomes(false)
	if v := verdictNow(); v != stopped {
		t.Errorf("just let go: %v, it had no time to beat", v)
	}
	asleep()
	p.sample(monotonic())
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
