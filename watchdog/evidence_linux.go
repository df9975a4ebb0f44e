package watchdog

import (
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usageTimes is one line of proc/PID/task/TID/schedstat: time on a processor and time waiting for one.
type usageTimes struct{ cpu, delay time.Duration }

// procFiles are the files of proc that say why an agent is silent. They are opened when the agent starts, because a
// watchdog that is out of descriptors must still be able to judge; spare is given up for the moment that a thread's file is read.
type procFiles struct {
	stat, status, wchan, cgroup, tasks int
	spare                              int

	takenAt instant // of the baseline
	before  evidence
	slept   time.Duration
	threads map[string]usageTimes
}

// openProc opens what there is; a file that cannot be opened is -1 and says nothing.
func openProc(pid int) *procFiles {
	dir := "/proc/" + itoa(pid) + "/"
	open := func(name string, flags int) int {
		fd, err := unix.Open(dir+name, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0)
		if err != nil {
			return -1
		}
		return fd
	}
	p := &procFiles{stat: open("stat", 0), status: open("status", 0), wchan: open("wchan", 0), cgroup: open("cgroup", 0),
		tasks: open("task", unix.O_DIRECTORY)}
	p.reserve()
	return p
}

func (p *procFiles) reserve() {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		fd = -1
	}
	p.spare = fd
}

// sample takes the baseline that collect compares with.
func (p *procFiles) sample(now instant) {
	p.takenAt, p.slept, p.threads = now, asleep(), p.times()
	p.before = evidence{}
	p.look(&p.before)
}

// look sees what may keep the process from running.
func (p *procFiles) look(e *evidence) {
	e.state = statState(readFD(p.stat))
	e.dumping = strings.Contains(readFD(p.status), "\nCoreDumping:\t1")
	// cgroup v2 parks a frozen task in do_freezer_trap, v1 in __refrigerator.
	w := readFD(p.wchan)
	e.frozen = w == "do_freezer_trap" || w == "__refrigerator" || p.cgroupFrozen()
}

// collect gathers the evidence; late is how long after its time it is asked.
func (p *procFiles) collect(now instant, late time.Duration) evidence {
	e := evidence{window: now - p.takenAt, late: late, slept: asleep() - p.slept}
	e.was, e.wasHeld = p.before.held()
	p.look(&e)
	for tid, t := range p.times() {
		grown := usageTimes{t.cpu - p.threads[tid].cpu, t.delay - p.threads[tid].delay}
		e.delay += grown.delay
		// A thread that waits in the run queue has its wait counted only when it runs: its state says it now.
		if grown.cpu*20 < e.window && statState(p.threadFile(tid, "stat")) == 'R' {
			e.queued = true
		}
	}
	return e
}

// times reads the schedstat of every thread.
func (p *procFiles) times() map[string]usageTimes {
	all := map[string]usageTimes{}
	for _, tid := range p.tids() {
		if f := strings.Fields(p.threadFile(tid, "schedstat")); len(f) >= 2 {
			cpu, _ := strconv.ParseInt(f[0], 10, 64)
			delay, _ := strconv.ParseInt(f[1], 10, 64)
			all[tid] = usageTimes{time.Duration(cpu), time.Duration(delay)}
		}
	}
	return all
}

// tids lists the threads.
func (p *procFiles) tids() (names []string) {
	if p.tasks < 0 {
		return nil
	}
	_, _ = unix.Seek(p.tasks, 0, unix.SEEK_SET)
	buf := make([]byte, 4096)
	for {
		n, err := unix.ReadDirent(p.tasks, buf)
		if err != nil || n <= 0 {
			return names
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// children lists the living children of the process, of all its threads.
func (p *procFiles) children() (living []int32) {
	var pids []int32
	for _, tid := range p.tids() {
		p.withFile(p.tasks, tid+"/children", func(fd int) { pids = appendPIDs(pids, fd) })
	}
	for _, pid := range pids {
		if state := statState(p.read(unix.AT_FDCWD, "/proc/"+itoa(pid)+"/stat")); state != 0 && state != 'Z' && state != 'X' {
			living = append(living, pid)
		}
	}
	return living
}

func (p *procFiles) threadFile(tid, name string) string { return p.read(p.tasks, tid+"/"+name) }

func (p *procFiles) read(dir int, name string) (text string) {
	p.withFile(dir, name, func(fd int) { text = readFD(fd) })
	return text
}

// withFile opens a file for a moment, in the place of the spare descriptor.
func (p *procFiles) withFile(dir int, name string, use func(fd int)) {
	if p.spare >= 0 {
		_ = unix.Close(p.spare)
	}
	if fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		use(fd)
		_ = unix.Close(fd)
	}
	p.reserve()
}

// cgroupFrozen asks the agent's cgroup v2, wherever it has moved since it started; in a hybrid hierarchy it is mounted below
// "unified".
func (p *procFiles) cgroupFrozen() bool {
	for _, line := range strings.Split(readFD(p.cgroup), "\n") {
		path, v2 := strings.CutPrefix(line, "0::/")
		if !v2 {
			continue
		}
		for _, mount := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/unified/"} {
			if strings.Contains("\n"+p.read(unix.AT_FDCWD, mount+path+"/cgroup.events"), "\nfrozen 1") {
				return true
			}
		}
	}
	return false
}

func (p *procFiles) close() {
	for _, fd := range []int{p.stat, p.status, p.wchan, p.cgroup, p.tasks, p.spare} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// readFD reads a file of proc or a cgroup from its beginning; "" when it cannot be read.
func readFD(fd int) string {
	if fd < 0 {
		return ""
	}
	var buf [4096]byte
	n, err := unix.Pread(fd, buf[:], 0)
	if err != nil || n < 0 {
		return ""
	}
	return string(buf[:n])
}

// statState is the third field of proc/PID/stat. The second is the command in parentheses, which may hold any byte.
func statState(stat string) byte {
	i := strings.LastIndexByte(stat, ')')
	if i < 0 || i+2 >= len(stat) {
		return 0
	}
	return stat[i+2]
}
