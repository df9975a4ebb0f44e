package agent

import (
	"log/slog"
	"slices"
	"time"
)

// keepLauncher returns the launcher that may fork now, nil while there is none. A dead or failed one is replaced by a
// new generation; its workers serve on.
func (p *pool) keepLauncher(now time.Time) *launcher {
	s := &p.loop.launch
	if l := p.launcher; l != nil {
		select {
		case <-l.ready:
			select {
			case <-l.dead:
				p.emit(launcherLost, slog.Int("pid", l.process.pid), slog.Int("generation", l.generation))
				s.notYet = now.Add(s.restarts.next(now))
				p.setLauncher(nil)
			default:
				s.failures, s.failure = 0, nil
				return l
			}
		case <-l.failed:
			s.failures++
			s.failure = l.failure
			p.emit(launcherStartFailed, slog.Int("try", s.failures), slog.String("cause", l.failure.Message))
			s.notYet = now.Add(s.restarts.next(now))
			if s.failed() {
				s.notYet = now.Add(p.loop.probe)
			}
			l.kill()
			p.setLauncher(nil)
		default:
			return nil
		}
	}
	if stuck := p.stuckLaunchers(); stuck != nil {
		s.failures, s.failure, s.notYet = max(s.failures, startTries), stuck, now.Add(time.Second)
		return nil
	}
	if now.Before(s.notYet) {
		return nil
	}
	l, err := p.newLauncher(p.cfg())
	if err != nil {
		s.failures++
		s.failure = asError(err, p.name)
		s.notYet = now.Add(s.restarts.next(now))
		if s.failed() {
			s.notYet = now.Add(p.loop.probe)
		}
		p.emit(launcherStartFailed, slog.Int("try", s.failures), slog.String("cause", err.Error()))
		return nil
	}
	p.setLauncher(l)
	return nil
}

// newLauncher starts one generation and pokes the loop at its two events.
func (p *pool) newLauncher(cfg *poolSettings) (*launcher, error) {
	p.loop.generation++
	l, err := startLauncher(p.launcherSpec(cfg, p.loop.generation), p.agent.children, p.agent.guard, &p.agent.buffers, p.log, p.sink("launcher"))
	if err != nil {
		return nil, err
	}
	p.emit(launcherStarted, slog.Int("pid", l.process.pid), slog.Int("generation", l.generation), slog.String("python", cfg.py.path))
	p.loop.running = append(p.loop.running, l)
	p.loop.workers.Go(func() {
		timeout := time.NewTimer(cfg.Timeouts.Start)
		defer timeout.Stop()
		select {
		case <-l.ready:
			if l.refused != "" {
				p.emit(forkRefused, slog.String("reason", l.refused))
			}
		case <-l.failed:
		case <-timeout.C:
			l.fail(failf(PoolFailed, "launcher of pool %q was not ready within %s (it was %s)", p.name, cfg.Timeouts.Start, l.progress()))
		case <-l.left:
			return
		}
		p.poke()
		select {
		case <-l.dead:
		case <-l.left:
			return
		}
		p.emit(launcherExited, slog.Int("pid", l.process.pid), slog.Int("generation", l.generation), slog.String("end", l.end))
		p.poke()
	})
	return l, nil
}

// dropLaunchers joins the generations that are dead and gives their descriptors back: a pool that probes for days must not
// run out of them.
func (p *pool) dropLaunchers() {
	p.loop.running = slices.DeleteFunc(p.loop.running, func(l *launcher) bool {
		if l == p.launcher {
			return false
		}
		select {
		case <-l.dead:
			l.close()
			return true
		default:
			return false
		}
	})
}

func (p *pool) setLauncher(l *launcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.launcher = l
}

// launcherHangs is called by a worker whose order the launcher did not carry out in time; the second time kills it.
func (p *pool) launcherHangs(l *launcher) {
	l.mu.Lock()
	l.missed++
	missed := l.missed
	l.mu.Unlock()
	p.emit(launcherLate, slog.Int("pid", l.process.pid), slog.Int("times", missed))
	if missed >= 2 {
		l.kill()
	}
}

func (p *pool) launcherSpec(cfg *poolSettings, generation int) launcherSpec {
	return launcherSpec{pool: p.name, generation: generation, python: cfg.py, library: p.agent.library, env: p.launcherEnv(),
		timeout: cfg.Timeouts.Start, uptime: p.agent.uptime, tellKill: func(pid int, why string) { p.emit(launcherKilled, slog.Int("pid", pid), slog.String("why", why)) },
		init: initOrder{Op: "init", RunID: p.agent.runID, Pool: p.name, Generation: generation, Parent: p.agent.pid,
			Start: cfg.Start, Preload: append([]string{}, cfg.Preload...), Path: []string{cfg.Workdir}, Workdir: cfg.Workdir, Nice: p.agent.niceness.ownNiceness()}}
}
