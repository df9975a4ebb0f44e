package agent

import (
	"fmt"
	"strings"
	"time"
)

// figuresEvery is how often the service manager is told the figures, if they have changed: `systemctl status` is read by people.
const figuresEvery = 5 * time.Second

// figures is the text of STATUS= (sd_notify(3)): what is wrong first, then how much there is to do.
func (a *Agent) figures() string {
	var wrong []string
	ready, desired, running, waiting, calls := 0, 0, 0, 0, uint64(0)
	pools := a.allPools()
	for _, p := range pools {
		p.mu.Lock()
		for _, w := range p.workers {
			if w.shown.state == stateReady || w.shown.state == stateBusy {
				ready++
			}
			if w.shown.current != nil {
				running++
			}
		}
		desired, waiting, calls = desired+p.desired, waiting+len(p.queue), calls+p.calls
		if p.phase == poolFailed || p.phase == poolDegraded || p.phase == poolDraining {
			wrong = append(wrong, fmt.Sprintf("pool %s is %s", p.name, p.phase))
		}
		p.mu.Unlock()
	}
	if a.draining.Load() {
		return fmt.Sprintf("stopping: %d calls running, %d waiting", running, waiting)
	}
	if len(pools) == 0 {
		return "no pool: add one under `pools:` in " + orElse(a.options.ConfigPath, "the configuration") + " or its conf.d, then reload"
	}
	wrong = append(wrong, fmt.Sprintf("%d of %d workers ready, %d calls running, %d waiting, %d so far", ready, desired, running, waiting, calls))
	return strings.Join(wrong, "; ")
}

// tellFigures sends them when they differ from what was sent last.
func (a *Agent) tellFigures(last string) string {
	now := a.figures()
	if now != last {
		a.guard.notify("STATUS=" + now)
	}
	return now
}
