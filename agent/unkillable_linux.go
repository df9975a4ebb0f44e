package agent

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// unkillableAfter is how long a process may outlive the first KILL before it counts as one that nobody can end, if the kernel says
	// that it is held.
	unkillableAfter = 5 * time.Second
	// lookAgain is when one that is not held is looked at again.
	lookAgain = time.Second
)

// killed says whether KILL is on its way to a process: it will not do anything any more.
func killed(pid int) bool {
	for _, key := range []string{"\nSigPnd:\t", "\nShdPnd:\t"} {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		_, after, _ := strings.Cut(string(text), key)
		line, _, _ := strings.Cut(after, "\n")
		if mask, err := strconv.ParseUint(line, 16, 64); err == nil && mask&(1<<(uint(syscall.SIGKILL)-1)) != 0 {
			return true
		}
	}
	return false
}

// unkillable is the verdict on a worker whose process, or what that has left behind, outlives KILL: its call ends now, its slot gets a
// substitute, and whoever comes free at last is collected like any other.
func (w *worker) unkillable(s survivor) {
	if w.life.unkillable {
		return
	}
	w.life.unkillable = true
	pm := w.postMortem()
	pm.Unkillable = s.String()
	w.pool.giveUpOn(w, s, pm)
}

// leave is the end of a worker that cannot be ended while the agent must: its keeper stays with it, the watchdog names it.
func (w *worker) leave(s survivor) {
	w.pool.agent.leaveBehind(s)
	w.crash.close()
	for _, c := range []interface{ close() }{w.link, w.keeperLink, w.out, w.process, w.keeper} {
		c.close() // who reads or waits for one of them wakes
	}
	w.drainEvents()
}
