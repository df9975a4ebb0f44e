package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// CgroupDirEnv names the delegated cgroup that the watchdog hands on, CgroupRefusedEnv why there is none.
	CgroupDirEnv     = "PITBOSS_CGROUP_DIR"
	CgroupRefusedEnv = "PITBOSS_CGROUP_REFUSED"
	// cgroupPatience is how long a cgroup may take to become empty after its kill; a process in uninterruptible sleep takes longer.
	cgroupPatience = 5 * time.Second
)

// cgroups is the agent's part of its delegated cgroup (cgroups(7)): workers/<pool>/<worker>, one process tree each. The supervisor/
// beside it holds everybody else, so a kill or a limit of a worker's cgroup reaches that worker alone. A nil *cgroups is an
// agent that was given none: every method works and promises nothing.
type cgroups struct {
	dir      string            // workers/
	missing  map[string]string // by controller: why it cannot be used here
	killable bool              // has cgroup.kill (Linux 5.14)
}

// controllers are those whose limits a pool may set; what is missing is told when a limit asks for it.
var controllers = [...]string{"memory", "cpu", "pids"}

// openCgroups takes over the delegated cgroup: it ends and removes what an earlier agent has left in workers/, and passes on every
// controller that it was given. What cannot be ended within limit (a process in uninterruptible sleep) keeps its place, and this run
// gets another: the service must not stay down for it.
func openCgroups(delegated, runID string, limit time.Duration) (c *cgroups, killed int, left []int, err error) {
	stale, _ := filepath.Glob(filepath.Join(delegated, "workers*"))
	for _, dir := range stale {
		old := cgroup{dir: dir}
		found := old.pids()
		if old.close(limit) != nil {
			left = append(left, old.pids()...)
		}
		killed += len(found)
	}
	killed -= len(left)
	dir := filepath.Join(delegated, "workers")
	err = os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		dir += "-" + runID
		err = os.Mkdir(dir, 0o755)
	}
	if err != nil {
		return nil, killed, left, fmt.Errorf("cannot divide the delegated cgroup: %w", err)
	}
	c = &cgroups{dir: dir, missing: map[string]string{}}
	_, err = os.Stat(filepath.Join(dir, "cgroup.kill"))
	c.killable = err == nil
	given, err := os.ReadFile(filepath.Join(delegated, "cgroup.controllers"))
	if err != nil {
		return nil, killed, left, fmt.Errorf("cannot see what was delegated: %w", err)
	}
	for _, name := range controllers {
		if !slices.Contains(strings.Fields(string(given)), name) {
			c.missing[name] = fmt.Sprintf("the %s controller was not delegated to %s", name, delegated)
		} else if err := errors.Join(enable(delegated, name), enable(dir, name)); err != nil {
			c.missing[name] = err.Error()
		}
	}
	return c, killed, left, nil
}

// lacks is why limits of a controller bind nobody here; empty when they may. without is the reason when there is no cgroup at all.
func (c *cgroups) lacks(controller, without string) string {
	if c == nil {
		return without
	}
	return c.missing[controller]
}

// enable gives the children of a cgroup a controller. EBUSY says that a process lives in the cgroup itself.
func enable(dir, controller string) error {
	err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0)
	if err != nil {
		return fmt.Errorf("cannot pass on the %s controller: %w", controller, err)
	}
	return nil
}

// pool makes the cgroup of a pool, and opens what the watchdog needs to empty it: cgroup.kill and cgroup.events. The caller closes them.
func (c *cgroups) pool(name string) ([]*os.File, error) {
	if c == nil {
		return nil, nil
	}
	dir := filepath.Join(c.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("cannot make the cgroup of pool %q: %w", name, err)
	}
	for _, controller := range controllers {
		if c.missing[controller] == "" {
			if err := enable(dir, controller); err != nil {
				return nil, fmt.Errorf("cannot make the cgroup of pool %q: %w", name, err)
			}
		}
	}
	if !c.killable {
		return nil, nil
	}
	kill, err := os.OpenFile(filepath.Join(dir, "cgroup.kill"), os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make the cgroup of pool %q: %w", name, err)
	}
	events, err := os.Open(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		_ = kill.Close()
		return nil, fmt.Errorf("cannot make the cgroup of pool %q: %w", name, err)
	}
	return []*os.File{kill, events}, nil
}

// dropPool removes the cgroup of a pool that has ended.
func (c *cgroups) dropPool(name string) {
	if c != nil {
		_ = os.Remove(filepath.Join(c.dir, name)) // EBUSY: a pool of the same name has come since
	}
}

// enter makes a worker's cgroup with its limits and moves the process in. The process stands at its start gate and its keeper does
// not reap it before we have seen it, so the number is its own.
func (c *cgroups) enter(pool, worker string, limits *LimitsConfig, pid int) (*cgroup, error) {
	if c == nil {
		return nil, nil
	}
	g := &cgroup{dir: filepath.Join(c.dir, pool, worker), killable: c.killable}
	err := os.Mkdir(g.dir, 0o755)
	for _, s := range limits.settings() {
		if err == nil && c.missing[s.controller] == "" {
			if err = g.write(s.file, s.value); s.optional && errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		}
	}
	if err == nil {
		err = g.write("cgroup.procs", strconv.Itoa(pid))
	}
	if err != nil {
		_ = os.Remove(g.dir)
		return nil, fmt.Errorf("cannot place %s in its cgroup: %w", worker, err)
	}
	return g, nil
}

// cgroup is one cgroup that holds processes of ours. A nil *cgroup holds none.
type cgroup struct {
	dir      string
	killable bool
}

func (g *cgroup) write(file, value string) error {
	return os.WriteFile(filepath.Join(g.dir, file), []byte(value), 0)
}

// kill ends every process in it at once; false when that cannot be done here.
func (g *cgroup) kill() bool { return g != nil && g.killable && g.write("cgroup.kill", "1") == nil }

// oomKills is how many of its processes the kernel has killed for want of memory (memory.events), below a limit of this cgroup or
// of one above.
func (g *cgroup) oomKills() uint64 {
	if g == nil {
		return 0
	}
	return readField(filepath.Join(g.dir, "memory.events"), "oom_kill ")
}

// pids are the processes in it and below.
func (g *cgroup) pids() (pids []int) {
	_ = filepath.WalkDir(g.dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == "cgroup.procs" {
			text, _ := os.ReadFile(path)
			for field := range strings.FieldsSeq(string(text)) {
				if pid, err := strconv.Atoi(field); err == nil {
					pids = append(pids, pid)
				}
			}
		}
		return nil
	})
	return pids
}

// close ends what is left in it and removes it, with what a tool may have made below. cgroup.kill does not stick (a process may move
// in later), so it is written until nothing is left. The error names who could not be ended within limit.
func (g *cgroup) close(limit time.Duration) error {
	if g == nil {
		return nil
	}
	events, err := os.Open(filepath.Join(g.dir, "cgroup.events"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer events.Close()
	for deadline := time.Now().Add(limit); readField(events.Name(), "populated ") == 1; {
		if g.write("cgroup.kill", "1") != nil { // before Linux 5.14
			g.killEach()
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("processes %v of cgroup %s are still there %s after KILL", g.pids(), g.dir, limit)
		}
		// A change of cgroup.events is POLLPRI; 10 ms, because a fork during the kill changes nothing in it.
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}, int(min(left.Milliseconds()+1, 10)))
	}
	return removeCgroups(g.dir)
}

// killEach is cgroup.kill before Linux 5.14. A number from cgroup.procs may be another process's a moment later, so it becomes a
// handle first, and whether that process is in the cgroup is looked up after that. The look was at the handle's process if
// the signal arrives: it has not been reaped since.
func (g *cgroup) killEach() {
	for _, pid := range g.pids() {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if slices.Contains(g.pids(), pid) {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		_ = unix.Close(fd)
	}
}

// removeCgroups removes a cgroup and those below it; their files go with them.
func removeCgroups(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if entry.IsDir() {
			err = errors.Join(err, removeCgroups(filepath.Join(dir, entry.Name())))
		}
	}
	if removed := os.Remove(dir); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
		err = errors.Join(err, removed)
	}
	return err
}
