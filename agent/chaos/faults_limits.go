package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// noDescriptors lets agent and watchdog open nothing more. Then clients come whom nobody can take in: that must not cost a
// processor.
func noDescriptors(r *victims) {
	for _, p := range []*Process{r.agent.Process, r.agent.Watchdog} {
		low := unix.Rlimit{Cur: lowestFree(p.PID), Max: lowestFree(p.PID)}
		r.Must(unix.Prlimit(p.PID, unix.RLIMIT_NOFILE, &low, nil))
	}
	for range 20 {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		r.Must(err)
		r.Cleanup(func() { _ = unix.Close(fd) })
		r.Must(unix.Connect(fd, &unix.SockaddrUnix{Name: r.agent.Socket}))
	}
	const window = time.Second
	before := cpuOf(r.agent.Process.PID)
	<-time.After(window) // the window of the measurement
	if used := cpuOf(r.agent.Process.PID) - before; used > window/2 {
		r.Errorf("the agent burnt %s of %s while it could take in nobody", used, window)
	}
}

// lowestFree is the lowest descriptor that a process does not hold: open(2) would give it out next.
func lowestFree(pid int) uint64 {
	for fd := uint64(0); ; fd++ {
		if _, err := os.Lstat(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); err != nil {
			return fd
		}
	}
}

// cpuOf is the processor time that a process has used (fields 14 and 15 of /proc/PID/stat, in ticks of 10 ms).
func cpuOf(pid int) time.Duration {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// controllerDir is the round's cgroup of a v1 controller, or where cgroup v2 has the controller, of that.
func controllerDir(r *Round, name string) string {
	return filepath.Join("/sys/fs/cgroup", name, placePrefix+r.tree.Token)
}

// needsController: those of v1 can be given to a process without its parents' consent.
func needsController(name string) func(*Host) string {
	return func(h *Host) string {
		switch file := filepath.Join("/sys/fs/cgroup", name, "cgroup.procs"); {
		case !h.Root:
			return "needs root: it sets a limit of cgroup " + name
		case unix.Access(file, unix.W_OK) != nil:
			return "needs the " + name + " controller of cgroup v1 at /sys/fs/cgroup/" + name
		}
		return ""
	}
}

// inController starts the agent in the round's cgroup of a controller.
func inController(name string) func(*Round, *Options) {
	return func(r *Round, o *Options) {
		dir := controllerDir(r, name)
		r.Must(os.Mkdir(dir, 0o700))
		r.Cleanup(func() {
			r.Until("an empty cgroup "+name, func() bool {
				killMembers(dir) // only after a failure is there anybody
				return !errors.Is(os.Remove(dir), unix.EBUSY)
			})
		})
		o.Before = append([]string{"/bin/sh", "-c", `echo $$ > "$0/cgroup.procs" && exec "$@"`, dir}, o.Before...)
	}
}

// killMembers ends who is in a cgroup; whoever is in it after it was pinned is who was listed.
func killMembers(dir string) {
	members := func() string {
		text, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		return "\n" + string(text)
	}
	for field := range strings.FieldsSeq(members()) {
		pid, _ := strconv.Atoi(field)
		if p, err := Pin(pid); err == nil {
			if strings.Contains(members(), "\n"+field+"\n") {
				p.Kill(unix.SIGKILL)
			}
			p.close()
		}
	}
}

func (r *victims) limit(controller, file, value string) {
	r.Must(os.WriteFile(filepath.Join(controllerDir(r.Round, controller), file), []byte(value), 0))
}

func (r *victims) usage(controller, file string) int {
	text, err := os.ReadFile(filepath.Join(controllerDir(r.Round, controller), file))
	r.Must(err)
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	r.Must(err)
	return n
}

// noProcesses leaves no room for one process more when a worker is gone with its keeper and its escapees.
func noProcesses(r *victims) {
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", r.workers[0].PID))
	r.limit("pids", "pids.max", itoa(r.usage("pids", "pids.current")-1-len(threads)-escapees))
}

// manyProcesses is more than a tree of victims has.
const manyProcesses = 1000

// noProcessesOfUser: whoever forks is above the limit.
func noProcessesOfUser(r *victims) {
	all := append([]*Process{r.agent.Process, r.agent.Watchdog, r.launchers[poolA], r.launchers[poolB]}, r.keepers...)
	for _, p := range all {
		c := exec.Command("prlimit", "--pid", itoa(p.PID), "--nproc=1:1")
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: somebody, Gid: somebody}} // root may lack CAP_SYS_RESOURCE
		r.Must(c.Run())
	}
}

// noMemory keeps the tree at its limit: a reader of a large file goes through the page cache, so that everybody's reclaim goes on,
// and what the tree needs it gets, slowly.
func noMemory(r *victims) {
	const slack = 24 << 20 // what a replacement needs that cannot be reclaimed
	r.limit("memory", "memory.limit_in_bytes", itoa(r.usage("memory", "memory.usage_in_bytes")+slack))
	large, err := os.CreateTemp("", "large") // without the token: the reader is none of the tree
	r.Must(err)
	r.Cleanup(func() { _, _ = os.Remove(large.Name()), large.Close() })
	r.Must(large.Truncate(4 * slack)) // holes are read through the page cache, too
	reader := exec.Command("/bin/sh", "-c", `read go; while :; do cat "$0" > /dev/null; done`, large.Name())
	reader.Dir, reader.SysProcAttr = "/", &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	start, err := reader.StdinPipe()
	r.Must(err)
	r.Must(reader.Start())
	ended := make(chan struct{})
	go func() { _ = reader.Wait(); close(ended) }()
	r.Cleanup(func() { _ = unix.Kill(-reader.Process.Pid, unix.SIGKILL); <-ended }) // our unreaped child: the group is its own
	r.limit("memory", "cgroup.procs", itoa(reader.Process.Pid))
	_, err = start.Write([]byte("go\n"))
	r.Must(err)
}
