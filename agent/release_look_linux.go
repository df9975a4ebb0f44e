package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// resourceLook is one look at all that a slot needs. It touches no state but its own.
type resourceLook struct {
	ctx          context.Context // the pool's loop
	pool         *pool
	resources    []resource
	reuseAddress bool
	gpuMemory    Size
	apps         map[int]bool // see releaseGate
	pidsMatch    bool         // the numbers of nvidia-smi are those of /proc
	remains      *remains
	name         bool // also who holds what is held
}

// run returns what is not free, and the processes that use the GPUs.
func (l *resourceLook) run() (held []hold, apps map[int]bool) {
	apps = map[int]bool{}
	// To find a holder takes the descriptors of every process: one look at a time, the others tell theirs at a later one.
	name := l.name && l.pool.agent.naming.TryLock()
	if name {
		defer l.pool.agent.naming.Unlock()
	}
	if l.remains != nil && !l.remains.gone(l.pool) {
		held = append(held, hold{resource{kind: resourceTree, name: l.remains.worker}.String(), "they have fallen to its launcher, which kills them"})
	}
	for _, r := range l.resources {
		h := hold{resource: r.String()}
		var err error
		switch r.kind {
		case resourcePort:
			if err = tryPort(r.port, l.reuseAddress); errors.Is(err, errHeld) && name {
				h.by = portHolder(r.port)
			}
		case resourceFile:
			if err = tryFile(r.name); errors.Is(err, errHeld) && name {
				h.by = fileHolder(r.name)
			}
		case resourceGPU:
			h.by, err = l.tryGPU(r.name, apps)
		}
		switch {
		case err == nil:
			continue
		case !errors.Is(err, errHeld):
			h.by = fmt.Sprintf("cannot tell: %v", err)
		}
		held = append(held, h)
	}
	return held, apps
}

// gone says whether nothing is left below the launcher, or below the agent when that is dead, but what they have started themselves:
// what a killed keeper leaves falls to them, and they kill it.
func (r *remains) gone(p *pool) bool {
	select {
	case <-r.launcher.dead:
		return p.agent.children.sweep() == 0
	default:
	}
	pid := strconv.Itoa(r.launcher.process.pid)
	text, err := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "children")) // it has one thread
	if err != nil {
		return true // without CONFIG_PROC_CHILDREN there is nothing to look at: its resources alone decide
	}
	known := map[string]bool{}
	p.mu.Lock()
	for _, w := range p.workers {
		known[strconv.Itoa(w.shown.keeper)] = true
	}
	p.mu.Unlock()
	return !slices.ContainsFunc(strings.Fields(string(text)), func(child string) bool { return !known[child] })
}
