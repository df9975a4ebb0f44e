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

// throttledFor is how long a quota has kept the agent from running so far: throttled_usec or throttled_time (in ns) of the cpu.stat of
// its cgroup or of one above, the largest. What waits because of a quota is in no run queue, so run delay does not show it (measured
// on Linux 6.18).
func (p *procFiles) throttledFor() (longest time.Duration) {
	p.eachCgroup(func(dir string, controllers []string) {
		label, unit := "throttled_usec ", time.Microsecond
		if controllers != nil {
			label, unit = "throttled_time ", time.Nanosecond
		}
		if controllers != nil && !slices.Contains(controllers, "cpu") {
			return
		}
		for len(dir) >= len(cgroupRoot) {
			for line := range strings.Lines(p.read(unix.AT_FDCWD, dir+"/cpu.stat")) {
				if text, ok := strings.CutPrefix(line, label); ok {
					n, _ := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
					longest = max(longest, time.Duration(n)*unit)
				}
			}
			dir = dir[:strings.LastIndexByte(dir, '/')]
		}
	})
	return longest
}
