package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
	"golang.org/x/sys/unix"
)

// faultLimit is how long the tree may take to become empty after the agent's death, whatever is missing.
const faultLimit = grace + time.Second

// busyHost is from how many runnable tasks per processor on a late end is the host's: then limit alone holds.
const busyHost = 8

// fault is a resource that fails while an agent with victims serves.
type fault struct {
	name, what string
	cannot     func(*Host) string
	options    func(*Round, *Options)
	strike     func(*victims)
	// says is in the log when a worker that dies under the fault cannot be replaced; "": it is replaced.
	says string
	// mute: nobody can read standard error, so the certificate is looked for in the runtime directory alone.
	mute bool
	// lost: neither can the runtime directory be written; the certificate is on standard error alone.
	lost bool
}

// faultScenarios take away, one by one and all at once, what the kill path could need.
func faultScenarios() []Scenario {
	var all []Scenario
	for _, f := range faults() {
		expect := "a killed worker is replaced"
		if f.says != "" {
			expect = "a killed worker's replacement fails by name"
		}
		all = append(all, Scenario{Name: f.name, What: f.what, Expect: expect + ", living ones answer; then the agent is killed: empty within its grace and 1 s, with a certificate",
			Long: 20, Cannot: f.cannot, Run: f.run})
	}
	all[len(all)-1].Rounds = 1 // of a plain verify, the one that has them all
	return append(all, oomScenarios()...)
}

func faults() []fault {
	return []fault{
		{name: "descriptors-run-out", what: "RLIMIT_NOFILE of agent and watchdog is what they hold; clients go on connecting", says: "too many open files", strike: noDescriptors},
		{name: "processes-run-out", what: "pids.max of the whole tree is what it holds", cannot: needsController("pids"), options: inController("pids"),
			says: "Resource temporarily unavailable", strike: noProcesses},
		{name: "runtime-directory-full", what: "the runtime directory is a file system of 64 KiB, and full", cannot: needsUnshare, options: smallRuntimeDir,
			says: "no space left on device", strike: fillRuntimeDir, lost: true},
		{name: "log-disk-full", what: "standard error is /dev/full", options: stderrIs(devFull), mute: true},
		{name: "log-pipe-full", what: "standard error is a full pipe that nobody reads", options: stderrIs(fullPipe), mute: true},
		{name: "log-pipe-closed", what: "standard error is a pipe whose reader is gone", options: stderrIs(closedPipe), mute: true},
		{name: "log-terminal-hung-up", what: "standard error is a terminal that was hung up", options: stderrIs(hungUpTerminal), mute: true},
		{name: "memory-pressure", what: "the tree's memory limit is what it uses; reclaim never ends", cannot: needsController("memory"), options: inController("memory"), strike: noMemory},
		{name: "inherited-harm", what: "SIGCHLD ignored, all signals blocked, 0, 1 and 2 closed, 1 000 descriptors, umask 0777, no working directory, a stack of 256 KiB",
			options: inheritHarm, mute: true},
		{name: "everything-runs-out", what: "descriptors, processes, runtime directory, log pipe and memory at once", cannot: firstOf(needsController("pids"), needsController("memory"), needsUnshare),
			options: func(r *Round, o *Options) {
				smallRuntimeDir(r, o)
				inController("pids")(r, o)
				inController("memory")(r, o)
				stderrIs(fullPipe)(r, o)
			},
			strike: func(r *victims) { noMemory(r); fillRuntimeDir(r); noProcesses(r); noDescriptors(r) }, says: anything, mute: true, lost: true},
	}
}

// anything is the word of a fault whose log nobody can read.
const anything = "-"

func (f fault) run(round *Round) {
	r := startVictims(round, false, func(o *Options) {
		if f.options != nil {
			f.options(round, o)
		}
	})
	r.descend()
	r.enter("idle")
	before := r.agent.Client() // connected before the fault
	if f.strike != nil {
		f.strike(r)
	}
	f.replaces(r)
	r.livingAnswer(before)
	busy := runnable() > busyHost*r.host.CPUs
	r.agent.Process.Kill(unix.SIGKILL)
	switch took := r.Empty(limit); {
	case took > faultLimit && busy:
		r.Note("empty after %s; %d runnable tasks on %d processors", took.Round(time.Millisecond), runnable(), r.host.CPUs)
	case took > faultLimit:
		r.Errorf("empty after %s, want %s%s", took, faultLimit, r.logs())
	}
	f.certified(r)
}

// replaces kills a worker of the pool with two.
func (f fault) replaces(r *victims) {
	at := r.aKeeperOfA(r.random)
	dead := r.workers[at]
	dead.Kill(unix.SIGKILL)
	if !dead.Gone(patience) {
		r.Fatalf("worker %d outlives KILL", dead.PID)
	}
	r.keepers, r.workers = slices.Delete(r.keepers, at, at+1), slices.Delete(r.workers, at, at+1)
	switch f.says {
	case "":
		r.Until("replacement", func() bool { return len(r.noted("ready")) == workers+1 })
	case anything:
		r.Until("degraded pool", func() bool { return r.poolState(poolA) == "degraded" })
	default:
		r.Until("reason why the worker cannot be replaced", func() bool { return strings.Contains(r.agent.Log(), f.says) })
		if state := r.poolState(poolA); state != "degraded" {
			r.Errorf("pool %s with one worker of two is %s", poolA, state)
		}
	}
}

func (r *victims) poolState(name string) string {
	var s struct {
		Pools []struct{ Name, State string }
	}
	r.agent.Status(&s)
	for _, p := range s.Pools {
		if p.Name == name {
			return p.State
		}
	}
	return ""
}

// livingAnswer: both pools answer over a connection that was there before.
func (r *victims) livingAnswer(c *client.Client) {
	for _, pool := range []string{poolA, poolB} {
		if _, err := c.CallRaw(r.ctx, client.Request{Pool: pool, Tool: "who", Timeout: patience}); err != nil {
			r.Errorf("a living worker of pool %s: %v%s", pool, err, r.logs())
		}
	}
}

// certified looks for the death certificate where it can be.
func (f fault) certified(r *victims) {
	<-r.agent.waited // its watchdog is gone, or Empty had failed
	text, err := os.ReadFile(r.File("agent/last-death.json"))
	if f.lost {
		text, err = []byte(certificateIn(r.agent.Log())), nil
	}
	if f.lost && f.mute {
		return // nowhere to write it: the exit code is all that is left
	}
	var c struct {
		AgentPID int    `json:"agent_pid"`
		Left     int    `json:"survivor_count"`
		Proof    string `json:"proof"`
	}
	if err := errors.Join(err, json.Unmarshal(text, &c)); err != nil || c.AgentPID != r.agent.Process.PID || c.Left != 0 || !strings.HasPrefix(c.Proof, "ECHILD") {
		r.Errorf("certificate %q: %v%s", text, err, r.logs())
	}
	if !f.mute && certificateIn(r.agent.Log()) == "" {
		r.Errorf("no certificate on standard error%s", r.logs())
	}
	if code := r.agent.ExitCode(); code != 70 {
		r.Errorf("exit code %d, want 70", code)
	}
}

func certificateIn(log string) string {
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, `{"schema":1,"run_id"`) {
			return line
		}
	}
	return ""
}

// runnable is how many tasks of the host want a processor now (proc(5), loadavg).
func runnable() int {
	text, _ := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(text)); len(f) > 3 {
		running, _, _ := strings.Cut(f[3], "/")
		n, _ := strconv.Atoi(running)
		return n
	}
	return 0
}

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

func needsUnshare(h *Host) string {
	if !h.Root {
		return "needs root: it mounts a file system"
	}
	for _, tool := range []string{"unshare", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "needs " + tool + " of util-linux"
		}
	}
	return ""
}

func firstOf(all ...func(*Host) string) func(*Host) string {
	return func(h *Host) string {
		for _, f := range all {
			if why := f(h); why != "" {
				return why
			}
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

// smallRuntimeDir mounts a file system of 64 KiB on the runtime directory, which only the agent's own mount namespace shows.
func smallRuntimeDir(r *Round, o *Options) {
	dir := r.File("agent")
	r.Must(os.Mkdir(dir, 0o700))
	o.Before = append([]string{"unshare", "--mount", "/bin/sh", "-c", `mount -t tmpfs -o size=64k,mode=0700 none "$0" && exec "$@"`, dir}, o.Before...)
}

// fillRuntimeDir fills it to the last byte: the page that the record of the run has already is taken from it, because what fits in
// there would still be written.
func fillRuntimeDir(r *victims) {
	dir := fmt.Sprintf("/proc/%d/root%s", r.agent.Watchdog.PID, r.File("agent"))
	record, err := os.OpenFile(filepath.Join(dir, "run.jsonl"), os.O_RDWR, 0)
	r.Must(err)
	defer func() { _ = record.Close() }()
	r.Must(unix.Fallocate(int(record.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096))
	fill, err := os.Create(filepath.Join(dir, "fill"))
	r.Must(err)
	defer func() { _ = fill.Close() }()
	for block := make([]byte, 4096); err == nil; {
		_, err = fill.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		r.Fatalf("cannot fill the runtime directory: %v", err)
	}
}

// stderrIs gives watchdog and agent this standard error.
func stderrIs(open func(*Round) *os.File) func(*Round, *Options) {
	return func(r *Round, o *Options) {
		f := open(r)
		r.Cleanup(func() { _ = f.Close() })
		o.Change = func(c *exec.Cmd) { c.Stdout, c.Stderr = f, f }
	}
}

func devFull(r *Round) *os.File {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	r.Must(err)
	return f
}

func fullPipe(r *Round) *os.File {
	read, write, err := os.Pipe()
	r.Must(err)
	r.Cleanup(func() { _ = read.Close() })
	fd := int(write.Fd()) // blocking from here on, as a shell's pipe is
	r.Must(unix.SetNonblock(fd, true))
	for {
		if _, err := unix.Write(fd, make([]byte, 512)); err != nil {
			break
		}
	}
	r.Must(unix.SetNonblock(fd, false))
	return write
}

func closedPipe(r *Round) *os.File {
	read, write, err := os.Pipe()
	r.Must(err)
	r.Must(read.Close())
	return write
}

func hungUpTerminal(r *Round) *os.File {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	r.Must(err)
	fd := int(master.Fd())
	r.Must(unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	r.Must(err)
	terminal, err := os.OpenFile("/dev/pts/"+itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	r.Must(err)
	r.Must(master.Close())
	return terminal
}

// harm is what a careless parent leaves its children with.
const harm = `
import os, resource, signal, sys
for fd in range(1000):
    os.set_inheritable(os.open("/dev/null", os.O_RDONLY), True)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
resource.setrlimit(resource.RLIMIT_STACK, (256 << 10, resource.getrlimit(resource.RLIMIT_STACK)[1]))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
os.mkdir(sys.argv[1])
os.chdir(sys.argv[1])
os.rmdir(sys.argv[1])
os.umask(0o777)
for fd in range(3):
    os.close(fd)
os.execv(sys.argv[2], sys.argv[2:])
`

func inheritHarm(r *Round, o *Options) {
	o.Before = []string{r.host.Python, "-c", harm, r.File("gone")}
}
