package agent

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// superviseStop waits for orders to stop and hands them to the pools, until all of them are stopped.
func (a *Agent) superviseStop(ctx context.Context, stopped <-chan struct{}) {
	cancelled := ctx.Done()
	for {
		how := stopDrain
		select {
		case <-stopped:
			return
		case <-cancelled:
			cancelled = nil
		case how = <-a.stop:
		case <-a.guardLost:
			if a.options.Config.Watchdog.OnLoss == "continue" {
				continue // in tier group
			}
		}
		if !a.draining.Swap(true) {
			close(a.drain)
			a.emit(agentStopping, slog.Int("calls_running", a.Running()))
			a.guard.notify("STOPPING=1")
			a.guard.stopping(a.stopBudget())
		}
		a.poolsMu.Lock()
		for _, p := range slices.Concat(a.allPools(), a.leaving) {
			p.requestStop(how)
		}
		a.poolsMu.Unlock()
	}
}

// stopBudget is how long a stop may take: the longest drain, the ladder after it, and what the last proofs need.
func (a *Agent) stopBudget() time.Duration {
	budget := time.Duration(0)
	for _, p := range a.allPools() {
		budget = max(budget, p.cfg().Timeouts.Drain+p.cfg().Timeouts.Kill)
	}
	return budget + killPatience + keeperPatience
}

// Stop begins the drain; why goes to the log. It returns at once; Run returns when everything is gone.
func (a *Agent) Stop(why string) {
	a.emit(agentStopOrdered, slog.String("why", why))
	a.sendStop(stopDrain)
}

// Draining is closed when the agent begins to stop.
func (a *Agent) Draining() <-chan struct{} { return a.drain }

// KillGrace is the longest time that any pool leaves between TERM and KILL.
func (a *Agent) KillGrace() time.Duration { return a.longestGrace() }

// Hurry ends the drain: running calls are killed with the ladder.
func (a *Agent) Hurry() { a.sendStop(stopNow) }

func (a *Agent) sendStop(how stopRequest) {
	select {
	case a.stop <- how:
	case <-a.ended:
	default: // two orders wait already
	}
}

func (a *Agent) watchdogLost(cause error) {
	a.emit(watchdogLost, slog.String("cause", cause.Error()), slog.String("then", a.options.Config.Watchdog.OnLoss))
	select {
	case a.guardLost <- struct{}{}:
	default:
	}
}

// Bye tells the watchdog that the agent ends by its own will with this exit code. It is the last thing before os.Exit.
func (a *Agent) Bye(code int) { a.guard.bye(code) }
