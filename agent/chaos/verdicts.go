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
			Scenario{Name: "loaded-" + c.name, What: c.what + ", 50 of them at the defaults, under 50 runnable threads per processor", Expect: expect, Long: 1, Alone: true, Cannot: cannotComeFirst,
				Run: func(r *Round) { c.silence.run(r, 50, 2*time.Second, 0, true) }})
	}
	return append(all,
		Scenario{Name: "worker-stopped-comes-back", What: "SIGSTOP of an idle and of a busy worker, SIGCONT before the limit", Expect: "held with a substitute, then ready; its call is answered; 0 kills",
			Rounds: 1, Long: 5, Waits: true, Run: func(r *Round) { heldWorker(r, "stopped", r.holdStopped) }},
		Scenario{Name: "worker-traced", What: "a debugger stops an idle and a busy worker, and lets them go", Expect: "held with a substitute, then ready; its call is answered; 0 kills",
			Rounds: 1, Long: 5, Waits: true, Cannot: cannotReach, Run: func(r *Round) { heldWorker(r, "traced", r.trace) }},
		Scenario{Name: "worker-frozen", What: "cgroup.freeze of an idle and of a busy worker, and the end of it", Expect: "held with a substitute, then ready; its call is answered; 0 kills",
			Rounds: 1, Long: 5, Waits: true, Cannot: cannotFreeze, Run: func(r *Round) { heldWorker(r, "frozen", r.holdFrozen(2)) }},
		Scenario{Name: "worker-frozen-v1", What: "the same with the freezer of cgroup v1", Expect: "held with a substitute, then ready; its call is answered; 0 kills",
			Rounds: 1, Long: 5, Waits: true, Cannot: cannotFreezeV1, Run: func(r *Round) { heldWorker(r, "frozen", r.holdFrozen(1)) }},
		Scenario{Name: "worker-starved", What: "workers of the lowest priority, idle and in calls, under 50 runnable threads per processor", Expect: "0 kills; the calls are answered",
			Long: 3, Alone: true, Run: func(r *Round) { workerStarved(r, time.Minute) }},
		Scenario{Name: "agent-stopped", What: "SIGSTOP of the agent for 5 s, its timeout is 3 s", Expect: "0 kills; the call that ran is answered",
			Rounds: 1, Long: 5, Waits: true, Run: agentStopped},
		Scenario{Name: "agent-traced", What: "a debugger stops the agent for longer than its timeout", Expect: "0 kills",
			Rounds: 1, Long: 5, Waits: true, Cannot: cannotReach, Run: agentTraced},
		Scenario{Name: "agent-hung", What: "the agent waits for ever where it should beat", Expect: "found at its timeout, its stacks in the log, nothing left, no second agent before that",
			Rounds: 1, Long: 5, Waits: true, Cannot: cannotReach, Run: func(r *Round) { agentHung(r, asleep, 3*time.Second, 10*time.Second, false) }},
		Scenario{Name: "agent-hung-burning", What: "the agent turns on the spot where it should beat", Expect: "found at its timeout, its stacks in the log, nothing left, no second agent before that",
			Rounds: 1, Long: 5, Waits: true, Cannot: cannotReach, Run: func(r *Round) { agentHung(r, burning, 3*time.Second, 10*time.Second, false) }},
		Scenario{Name: "agent-hung-loaded", What: "the agent waits for ever, under 50 runnable threads per processor", Expect: "found at its timeout and 10 s",
			Long: 3, Cannot: cannotReach, Run: func(r *Round) { agentHung(r, asleep, 8*time.Second, 22*time.Second, true) }},
		Scenario{Name: "agent-hung-burning-loaded", What: "the agent turns on the spot, under 50 runnable threads per processor", Expect: "found when it has had 500 ms of processor time: its timeout and 50 s",
			Long: 3, Cannot: cannotReach, Run: func(r *Round) { agentHung(r, burning, 8*time.Second, time.Minute, true) }},
		Scenario{Name: "agent-loaded", What: "50 runnable threads per processor beside the agent", Expect: "0 kills", Rounds: 0, Long: 3, Run: func(r *Round) { agentLoaded(r, 30*time.Second) }},
		Scenario{Name: "agent-starved", What: "the agent has the lowest priority, under 50 runnable threads per processor", Expect: "0 kills",
			Long: 3, Run: func(r *Round) { agentStarved(r, 30*time.Second) }},
	)
}
