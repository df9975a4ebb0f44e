package chaos

import (
	"strings"
	"syscall"
	"time"
)

// stopScenarios: what happens to a stop, and to those who do it.
func stopScenarios() []Scenario {
	return []Scenario{
		{Name: "watchdog-stopped-agent-killed", What: "SIGSTOP of the watchdog, SIGKILL of the agent mid-call, SIGCONT", Expect: "the keepers end everything without it; then it certifies that",
			Rounds: 1, Long: 20, Run: guardianStopped},
		{Name: "held-at-a-stop", What: "SIGSTOP of a worker, of another's keeper and of a launcher; then the agent is told to stop", Expect: "an empty tree in bounded time; exit code 0, or 70 with a certificate",
			Rounds: 1, Long: 20, Waits: true, Run: heldAtStop},
		{Name: "agent-killed-at-a-stop", What: "the agent is told to stop and drains; SIGKILL at a random moment of that", Expect: "one TERM and the whole grace for each worker, an empty tree",
			Rounds: 1, Long: 20, Run: killedAtStop},
	}
}

// guardianStopped: the certificate comes from what the kernel still knows when the watchdog runs again.
func guardianStopped(round *Round) {
	r := startVictims(round, false)
	r.descend()
	r.enter("mid-call")
	r.agent.Watchdog.Kill(syscall.SIGSTOP)
	r.moment = time.Now()
	r.agent.Process.Kill(syscall.SIGKILL)
	r.Until("tree of the watchdog alone", func() bool {
		left := r.tree.Alive()
		return len(left) == 1 && left[0].PID == r.agent.Watchdog.PID
	})
	took := time.Since(r.moment)
	r.Note("the keepers needed %s", took.Round(time.Millisecond))
	if took > limit {
		r.Errorf("the keepers needed %s, want %s", took, limit)
	}
	r.agent.Watchdog.Kill(syscall.SIGCONT)
	r.Empty(limit)
	code := r.agent.ExitCode()
	r.checkGraces()
	r.checkEnd(code)
}

func heldAtStop(round *Round) {
	r := startVictims(round, false)
	r.descend()
	r.enter("idle")
	keeper := r.aKeeperOfA(r.random)
	r.keepers[keeper].Kill(syscall.SIGSTOP)
	for i, w := range r.workers {
		if w.pool == poolA && i != keeper {
			w.Kill(syscall.SIGSTOP)
		}
	}
	r.launchers[poolB].Kill(syscall.SIGSTOP)
	r.agent.Watchdog.Kill(syscall.SIGTERM)
	r.Empty(drain + grace + 2*limit)
	// The agent may run out of its time while it waits for the word of the stopped keeper. Then its watchdog does the rest, and says so.
	if code := r.agent.ExitCode(); code != 0 && (code != 70 || certificateIn(r.agent.Log()) == "") {
		r.Errorf("exit code %d, want 0, or 70 with a certificate%s", code, r.logs())
	}
}

// killedAtStop: the calls never end, so the drain lasts.
func killedAtStop(round *Round) {
	r := startVictims(round, false)
	r.descend()
	r.enter("mid-call")
	r.agent.Watchdog.Kill(syscall.SIGTERM)
	r.Until("drain", func() bool { return strings.Contains(r.agent.Log(), "agent.stopping") })
	r.pass(time.Duration(r.random.Int64N(int64(drain / 2))))
	r.moment = time.Now()
	r.agent.Process.Kill(syscall.SIGKILL)
	r.Empty(limit)
	code := r.agent.ExitCode()
	r.checkGraces()
	r.checkEnd(code)
}
