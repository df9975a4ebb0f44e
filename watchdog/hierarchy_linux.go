package watchdog

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupRoot is where the cgroup hierarchies are mounted.
const cgroupRoot = "/sys/fs/cgroup/"

// eachCgroup shows the agent's cgroups, wherever it has moved since it started: the directory below a mount, and the controllers of a
// hierarchy of version 1, nil for version 2. In a hybrid hierarchy that one is mounted below "unified".
func (p *procFiles) eachCgroup(see func(dir string, controllers []string)) {
	for line := range strings.Lines(readFD(p.cgroup)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(fields) != 3:
		case fields[0] == "0":
			see(cgroupRoot+fields[2], nil)
			see(cgroupRoot+"unified/"+fields[2], nil)
		default:
			controllers := strings.Split(fields[1], ",")
			for _, c := range controllers {
				see(cgroupRoot+c+"/"+fields[2], controllers) // a mount of two controllers has a link of each name
			}
		}
	}
}

// cgroupFrozen reports whether a freezer holds the agent: cgroup.events of version 2, freezer.state of version 1, where FREEZING is
// a cgroup of which a task cannot be frozen yet. Both speak of the cgroups above as well.
func (p *procFiles) cgroupFrozen() (frozen bool) {
	p.eachCgroup(func(dir string, controllers []string) {
		switch {
		case controllers == nil:
			frozen = frozen || strings.Contains("\n"+p.read(unix.AT_FDCWD, dir+"/cgroup.events"), "\nfrozen 1")
		case slices.Contains(controllers, "freezer"):
			frozen = frozen || strings.HasPrefix(p.read(unix.AT_FDCWD, dir+"/freezer.state"), "FR")
		}
	})
	return frozen
}

// throttling is what cpu.stat says of a quota so far.
type throttling struct {
	lasted  time.Duration // throttled_usec, or throttled_time in ns; a throttling counts when it ends
	periods uint64        // nr_throttled: periods of the quota that ended with nothing left
}

// between is how long the quota kept the process from running since was, window ago. Periods without an end are one throttling that began
// before.
func (t throttling) between(was throttling, window time.Duration) time.Duration {
	if t.lasted == was.lasted && t.periods > was.periods {
		return window
	}
	return t.lasted - was.lasted
}

// throttled asks the agent's cgroup and those above for their quotas; of each figure the largest counts. What waits because of a quota is
// in no run queue, so run delay does not show it (measured on Linux 6.18).
func (p *procFiles) throttled() (t throttling) {
	p.eachCgroup(func(dir string, controllers []string) {
		label, unit := "throttled_usec ", time.Microsecond
		if controllers != nil {
			label, unit = "throttled_time ", time.Nanosecond
		}
		if controllers != nil && !slices.Contains(controllers, "cpu") {
			return
		}
		for ; len(dir) >= len(cgroupRoot); dir = dir[:strings.LastIndexByte(dir, '/')] {
			text := p.read(unix.AT_FDCWD, dir+"/cpu.stat")
			t.lasted = max(t.lasted, time.Duration(labelled(text, label))*unit)
			t.periods = max(t.periods, labelled(text, "nr_throttled "))
		}
	})
	return t
}

// labelled is the number after a label at the beginning of a line, 0 without one.
func labelled(text, label string) uint64 {
	for line := range strings.Lines(text) {
		if number, ok := strings.CutPrefix(line, label); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(number), 10, 63)
			return n
		}
	}
	return 0
}
