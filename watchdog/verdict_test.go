package watchdog

import (
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
						for bits := range 8 {
							e := evidence{window: w, late: late, slept: slept, state: state, delay: delay,
								dumping: bits&1 != 0, frozen: bits&2 != 0, queued: bits&4 != 0}
							want := hung
							for v := hung; v > 0; v-- {
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

func TestStatState(t *testing.T) {
	for text, want := range map[string]byte{
		"12 (pitboss) S 1 12": 'S', "12 (a) R b) T 1": 'T', "12 (\n) t 1": 't', "": 0, "12 (x)": 0, "12 (x) ": 0, "no parenthesis R": 0,
	} {
		if got := statState(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
