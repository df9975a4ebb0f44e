package watchdog

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Environment variables about the delegated cgroup (cgroups(7), systemd's CGROUP_DELEGATION). The unit, or whoever started this process
// in a cgroup of its own, sets the first; the agent gets one of the others.
const (
	envCgroup        = "PITBOSS_CGROUP"         // "delegated": the cgroup of this process is ours to divide
	envCgroupDir     = "PITBOSS_CGROUP_DIR"     // its directory, when supervisor/ holds us and the agent may build beside it
	envCgroupRefused = "PITBOSS_CGROUP_REFUSED" // why that could not be done
)

// supervisorCgroup is where watchdog, agent, launchers and keepers live: below the delegated cgroup, because one that gives
// controllers to others may hold no process itself.
const supervisorCgroup = "supervisor"

// cgroupMounts are where cgroup v2 is mounted: alone, or beside v1.
var cgroupMounts = [...]string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}

// delegation is what the agent is told about its cgroup; both are empty when nothing was delegated.
type delegation struct {
	dir     string
	refused string
}

// env is what the agent's environment says of it.
func (d delegation) env() []string {
	switch {
	case d.dir != "":
		return []string{envCgroupDir + "=" + d.dir}
	case d.refused != "":
		return []string{envCgroupRefused + "=" + d.refused}
	}
	return nil
}

// enterSupervisor moves this process into supervisor/ of its delegated cgroup, before it has a child. An inner watchdog finds that
// its outer one has done so.
func enterSupervisor(asked, known string) delegation {
	if asked != "delegated" {
		if asked != "" {
			return delegation{refused: envCgroup + " is " + quote(asked) + "; the only value is delegated"}
		}
		return delegation{}
	}
	dir, why := ownCgroup()
	if why != "" {
		return delegation{refused: why}
	}
	if known != "" && dir == known+"/"+supervisorCgroup {
		return delegation{dir: known}
	}
	inner := dir + "/" + supervisorCgroup
	if err := unix.Mkdir(inner, 0o755); err != nil && err != unix.EEXIST {
		return delegation{refused: "cannot create " + quote(inner) + ": " + err.Error() + "; a unit needs Delegate=yes"}
	}
	if err := writeText(inner+"/cgroup.procs", "0"); err != nil { // 0 is the writer itself
		return delegation{refused: "cannot enter " + quote(inner) + ": " + err.Error() + "; a unit needs Delegate=yes"}
	}
	return delegation{dir: dir}
}

// ownCgroup is the directory of this process's cgroup v2.
func ownCgroup() (dir, why string) {
	path, found := "", false
	for line := range strings.SplitSeq(readFile("/proc/self/cgroup"), "\n") {
		if p, ok := strings.CutPrefix(line, "0::"); ok {
			path, found = p, true
		}
	}
	if !found {
		return "", "this process is in no cgroup v2"
	}
	for _, mount := range cgroupMounts {
		var fs unix.Statfs_t
		if unix.Statfs(mount, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			return strings.TrimSuffix(mount+path, "/"), ""
		}
	}
	return "", "cgroup v2 is not mounted at " + cgroupMounts[0] + " or " + cgroupMounts[1]
}

func writeText(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}
