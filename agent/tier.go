package agent

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// killTier is how surely the death of a process ends everything below it.
type killTier int

const (
	tierGroup  killTier = iota // keepers alone: nobody proves the end
	tierTree                   // guardians above and below: ECHILD is the proof
	tierCgroup                 // and each worker in a cgroup of its own, which the kernel ends at once
)

var tierNames = [...]string{"group", "tree", "cgroup"}

func (t killTier) String() string { return tierNames[t] }

// tierOf is the tier of a name that the configuration's check has seen; "" demands none.
func tierOf(name string) killTier {
	for i, n := range tierNames {
		if n == name {
			return killTier(i)
		}
	}
	return tierGroup
}

// tier is what holds now.
func (a *Agent) tier() killTier {
	switch state := a.guard.status().State; {
	case state == "off" || state == "gone":
		return tierGroup
	case a.cgroups != nil && a.cgroups.killable:
		return tierCgroup
	}
	return tierTree
}

// takeCgroup takes over the delegated cgroup, if there is one; killed and left are the processes of an earlier agent there that it has
// ended and could not end.
func (a *Agent) takeCgroup() (killed int, left []int, err error) {
	switch {
	case a.options.GuardFD < 0:
		a.cgroupReason = "there is no watchdog"
		return 0, nil, nil
	case a.options.CgroupDir == "":
		a.cgroupReason = orElse(a.options.CgroupRefused, "no cgroup was delegated to this agent; the unit of the packages does (Delegate=, PITBOSS_CGROUP=delegated)")
		return 0, nil, nil
	}
	a.cgroups, killed, left, err = openCgroups(a.options.CgroupDir, a.runID, cgroupPatience)
	if err != nil {
		return killed, left, fmt.Errorf("cannot use the delegated cgroup %q: %w", a.options.CgroupDir, err)
	}
	if !a.cgroups.killable {
		a.cgroupReason = "the kernel has no cgroup.kill (Linux 5.14)"
	}
	return killed, left, nil
}

// checkTiers refuses a configuration that demands more than what this start has got.
func (a *Agent) checkTiers(c Config) error {
	have, why := tierTree, a.cgroupReason
	switch {
	case a.options.GuardFD < 0:
		have = tierGroup
	case a.cgroups != nil && a.cgroups.killable:
		have = tierCgroup
	}
	if tierOf(c.Watchdog.Require) > have {
		return fmt.Errorf("cannot start: watchdog.require says %q, and the tier is %s: %s; mend that, or demand less", c.Watchdog.Require, have, why)
	}
	for _, p := range c.Pools {
		if tierOf(p.Guard) > have {
			return fmt.Errorf("cannot start pool %q: its guard says %q, and the tier is %s: %s; mend that, or say guard: %s", p.Name, p.Guard, have, why, have)
		}
	}
	return nil
}

// guardPool makes a pool's cgroup and tells the watchdog of the pool, with the means to empty it.
func (a *Agent) guardPool(name string, grace time.Duration) error {
	files, err := a.cgroups.pool(name)
	if err != nil {
		return err
	}
	defer closeFiles(files)
	return a.guard.pool(name, grace, files)
}

// How much sooner than the watchdog the out-of-memory killer takes the agent with everybody below it, and a worker once more.
const (
	agentOOMScore  = 100
	workerOOMScore = 400
)

// raiseOOMScore makes the kernel's out-of-memory killer prefer a process (oom_score_adj of proc(5), -1000 to 1000): it is ours, and
// nobody needs a privilege to raise it. The watchdog keeps what it was started with, the agent and the guardians below it come
// before it, workers first of all.
func raiseOOMScore(pid int, by int) {
	name := fmt.Sprintf("/proc/%d/oom_score_adj", pid)
	text, _ := os.ReadFile(name)
	if now, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		_ = os.WriteFile(name, strconv.AppendInt(nil, int64(min(now+by, 1000)), 10), 0)
	}
}
