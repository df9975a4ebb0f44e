package chaos

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	grace = 300 * time.Millisecond
	drain = 5 * time.Second // the shortest that a configuration may say
	limit = 5 * time.Second // for a tree that nobody keeps from ending
)

// Two pools, so that there are two launchers; two workers in one of them, so that one can serve while the other is replaced.
const (
	poolA, workersA = "a", 2
	poolB, workersB = "b", 1
	workers         = workersA + workersB
	launchers       = 2
	// everybody is watchdog, agent, launchers, a keeper and a worker each, and the workers' escapees.
	everybody = 2 + launchers + workers*(2+escapees)
)

// victims is an agent with two pools of victims, taken apart by /proc.
type victims struct {
	*Round
	agent     *Agent
	launchers map[string]*Process // by pool
	keepers   []*Process          // of workers[i]
	workers   []*Process
	calls     []*call
	moment    time.Time // from here on nobody is guarded by the agent: a TERM and its grace come after it
}

// victimConfig is the configuration of the two pools.
func victimConfig() string {
	return fmt.Sprintf(`
pools:
  - {name: %s, adapter: victim.py, workers: %d, timeouts: {kill: %s, drain: %s}}
  - {name: %s, adapter: victim.py, workers: %d, timeouts: {kill: %s, drain: %s}}
`, poolA, workersA, grace, drain, poolB, workersB, grace, drain)
}

// startVictims returns as soon as the agent's process exists; slow keeps the workers in setup, change has the last word.
func startVictims(r *Round, slow bool, change ...func(*Options)) *victims {
	o := Options{Config: victimConfig(), Files: map[string]string{"victim.py": victim}, Env: []string{"CHAOS_DIR=" + r.dir}}
	if slow {
		o.Files["slow"] = ""
	}
	for _, f := range change {
		f(&o)
	}
	return &victims{Round: r, agent: r.Start(o), launchers: map[string]*Process{}}
}

// pin pins a process until the end of the round.
func (r *Round) pin(pid int) *Process {
	p, err := Pin(pid)
	r.Must(err)
	r.pinned = append(r.pinned, p)
	return p
}

// noted lists the workers that have written a note of this kind.
func (r *Round) noted(kind string) map[int]bool {
	found, _ := filepath.Glob(r.File(kind + ".*"))
	pids := map[int]bool{}
	for _, name := range found {
		pid, _ := strconv.Atoi(strings.TrimPrefix(filepath.Ext(name), "."))
		pids[pid] = true
	}
	return pids
}

// descend reads the tree from /proc: watchdog → agent → launchers → keepers → workers. Every worker must have noted that
// its escapees exist, and the count of everybody must be exact: the instrument sees what it will later miss.
func (r *victims) descend() {
	r.Until("ready notes", func() bool { return len(r.noted("ready")) == workers })
	ready := r.noted("ready")
	for _, l := range ChildrenOf(r.agent.Process.PID) {
		keepers := ChildrenOf(l)
		name := poolA
		if len(keepers) == workersB {
			name = poolB
		}
		r.launchers[name] = r.pin(l)
		for _, k := range keepers {
			for _, w := range ChildrenOf(k) {
				if ready[w] {
					r.keepers, r.workers = append(r.keepers, r.pin(k)), append(r.workers, r.pin(w))
					r.workers[len(r.workers)-1].pool = name
				}
			}
		}
	}
	if len(r.launchers) != launchers || len(r.workers) != workers {
		r.Fatalf("found %d launchers and %d workers in /proc", len(r.launchers), len(r.workers))
	}
	r.Until(fmt.Sprintf("sight of %d processes", everybody), func() bool { return len(r.tree.Alive()) == everybody })
	for _, w := range r.workers {
		w.watch()
	}
}
