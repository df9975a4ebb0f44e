//go:build booted

package booted

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// roles are the kinds of processes of one agent, and which of them one status shows.
var roles = []struct {
	name     string
	pid      func(s status) int
	restarts bool // its death is the end of this run
	fails    bool // and of the call that worker 0 runs
}{
	{"agent", func(s status) int { return s.Agent.PID }, true, true},
	{"watchdog", func(s status) int { return s.Watchdog.PID }, true, true},
	{"launcher", func(s status) int { return s.Pools[0].LauncherPID }, false, false},
	{"keeper", func(s status) int { return busyWorker(s).keeper }, false, true},
	{"worker", func(s status) int { return busyWorker(s).worker }, false, true},
}

func busyWorker(s status) (pids struct{ keeper, worker int }) {
	for _, w := range s.Pools[0].Workers {
		if w.State == "busy" {
			pids.keeper, pids.worker = w.KeeperPID, w.PID
		}
	}
	return pids
}

// TestKill: whoever is killed, the call that it carried fails or goes on, it never hangs; nothing is left behind; and the service
// serves again.
func TestKill(t *testing.T) {
	for _, role := range roles {
		t.Run(role.name, func(t *testing.T) {
			before := serving(t)
			if out, code := call(t, "escape"); code != 0 {
				t.Fatalf("%s", out)
			}
			invocation, count, main := property(t, service, "InvocationID"), restarts(t), mainPID(t)
			running := begin(t, "nap", "seconds=5")
			pid := role.pid(look(t))
			if pid <= 1 {
				t.Fatalf("no %s in %+v", role.name, look(t))
			}
			must(t, syscall.Kill(pid, syscall.SIGKILL))
			out, code := running.end(t)
			if failed := code != 0; failed != role.fails {
				t.Errorf("its call: %q, exit %d", out, code)
			}
			if role.fails && code != 69 {
				t.Errorf("a dead worker or a lost connection is exit 69: %q, exit %d", out, code)
			}
			if role.restarts {
				await(t, "the service restarted", func() bool {
					return restarts(t) == count+1 && property(t, service, "SubState") == "running"
				})
			}
			after := ready(t)
			if again := property(t, service, "InvocationID") != invocation; again != role.restarts || (mainPID(t) != main) != role.restarts {
				t.Errorf("restarted: %v, want %v", again, role.restarts)
			}
			if same := after.Agent.RunID == before.Agent.RunID; same == role.restarts {
				t.Errorf("run %s, before %s", after.Agent.RunID, before.Agent.RunID)
			}
			nobodyElse(t, after.Agent.RunID)
			answers(t)
		})
	}
}

// TestManyDeaths: no number of deaths in a row is the last one, and the socket outlives them all.
func TestManyDeaths(t *testing.T) {
	serving(t)
	const deaths = 7 // the manager's own limit is 5 in 10 s (DefaultStartLimitBurst=)
	for i := range deaths {
		must(t, syscall.Kill(ready(t).Agent.PID, syscall.SIGKILL))
		await(t, "the service restarted", func() bool { return restarts(t) == i+1 && property(t, service, "SubState") == "running" })
	}
	unitIs(t, socket, "active")
	nobodyElse(t, ready(t).Agent.RunID)
	answers(t)
}

// TestHeld: whoever is stopped (SIGSTOP) is nobody's prey. Nothing is restarted, and all goes on when it is let go.
func TestHeld(t *testing.T) {
	for _, role := range roles {
		t.Run(role.name, func(t *testing.T) {
			before := serving(t)
			since, count, main := markJournal(t), restarts(t), mainPID(t)
			running := begin(t, "nap", "seconds=1")
			pid := role.pid(look(t))
			must(t, syscall.Kill(pid, syscall.SIGSTOP))
			t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
			switch role.name {
			case "agent":
				awaitJournal(t, since, "stopped; leaving it alone")
			case "watchdog": // it is asked when a worker starts
				for _, w := range before.Pools[0].Workers {
					if w.PID != busyWorker(look(t)).worker {
						must(t, syscall.Kill(w.PID, syscall.SIGKILL))
					}
				}
				await(t, "the agent notices", func() bool { return look(t).Watchdog.State == "silent" })
			case "worker":
				await(t, "the worker is held", func() bool {
					for _, w := range look(t).Pools[0].Workers {
						if w.PID == pid && w.State == "held" {
							return true
						}
					}
					return false
				})
			default:
				<-time.After(3 * time.Second) // longer than a heartbeat: nobody may act on it
			}
			if role.name != "agent" && role.name != "watchdog" {
				answers(t) // by the other worker
			}
			must(t, syscall.Kill(pid, syscall.SIGCONT))
			if out, code := running.end(t); code != 0 || !strings.Contains(out, "slept") {
				t.Errorf("its call: %q, exit %d", out, code)
			}
			after := ready(t)
			if restarts(t) != count || mainPID(t) != main || after.Agent.RunID != before.Agent.RunID {
				t.Errorf("the service was restarted")
			}
			answers(t)
		})
	}
}

// TestStopOfTheHeld: whoever is stopped (SIGSTOP) does not keep the service from ending in its time, and nothing is left.
func TestStopOfTheHeld(t *testing.T) {
	for _, role := range roles {
		t.Run(role.name, func(t *testing.T) {
			serving(t)
			running := begin(t, "nap", "seconds=600")
			pid := role.pid(look(t))
			must(t, syscall.Kill(pid, syscall.SIGSTOP))
			t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
			start := time.Now()
			run(t, "systemctl", "stop", service)
			took := time.Since(start)
			if result := property(t, service, "Result"); result == "timeout" || took > stopLimit {
				t.Errorf("the manager had to kill it, after %v: %s", took, result)
			}
			if out, code := running.end(t); code == 0 {
				t.Errorf("its call: %q", out)
			}
			await(t, "all of it gone", func() bool { return len(processes()) == 0 })
			try(t, "systemctl", "reset-failed", service) // what it ends with is TestStop's; a held agent is killed
		})
	}
}
