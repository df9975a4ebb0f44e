package chaos

import "time"

// verdictScenarios: workers and agents that are silent, with a reason or without.
func verdictScenarios() []Scenario {
	all := []Scenario{}
	for _, c := range []struct {
		name, what string
		silence    silence
	}{
		{"worker-stopped-idle", "SIGSTOP of workers without a call", stoppedIdle},
		{"worker-stopped-mid-call", "SIGSTOP of workers in a call", stoppedMidCall},
		{"gil-held-without-cpu", "calls that sleep in C with the GIL held", gilHeld},
	} {
		const expect = "held or blocked; no further call; a substitute within 10 s; killed at the limit, its stack in the caller's error"
		short := 12 * time.Second // of held_limit; the long form waits for the default
		if !c.silence.stop {
			short = 0
		}
		all = append(all,
			Scenario{Name: c.name, What: c.what, Expect: expect, Rounds: 1, Waits: true,
				Run: func(r *Round) { c.silence.run(r, 3, 500*time.Millisecond, short, false) }},
			Scenario{Name: "fifty-" + c.name, What: c.what + ", 50 of them at the defaults", Expect: expect, Long: 1, Waits: true,
				Run: func(r *Round) { c.silence.run(r, 50, time.Second, 0, false) }},
			Scenario{Name: "loaded-" + c.name, What: c.what + ", 50 of them at the defaults, under 50 runnable threads per processor", Expect: expect, Long: 1,
				Run: func(r *Round) { c.silence.run(r, 50, 2*time.Second, 0, true) }})
	}
	return all
}
