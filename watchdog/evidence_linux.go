package watchdog

import (
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// procFiles are the files of proc that say why an agent is silent. They are opened when the agent starts, because a
// watchdog that is out of descriptors must still be able to judge; spare is given up for the moment that a thread's file is read.
type procFiles struct {
	stat, status, wchan, cgroup, tasks int
	spare                              int

	takenAt instant // of the baseline
	before  evidence
	slept   time.Duration
	quota   throttling
	faults  uint64
	threads map[string]schedstat
	ran     time.Duration // since the first baseline of this silence
	dumped  bool          // a core dump has been seen: the last thing that a process does
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

// sample takes the baseline that collect compares with. on says that it goes on with a silence in which the agent was starved: what it
// ran since the first baseline counts.
func (p *procFiles) sample(now instant, on bool) {
	if p.advance(nil); !on {
		p.ran = 0
	}
	p.takenAt, p.slept, p.quota = now, asleep(), p.throttled()
	p.faults = majorFaults(readFD(p.stat))
	p.before = evidence{}
	p.look(&p.before)
}

// look sees what may keep the process from running.
func (p *procFiles) look(e *evidence) {
	e.state = statState(readFD(p.stat))
	// The word is gone when the memory is written; the file may take longer to close, and the process is in its exit until then.
	p.dumped = p.dumped || strings.Contains(readFD(p.status), "\nCoreDumping:\t1")
	e.dumping = p.dumped
	// cgroup v2 parks a frozen task in do_freezer_trap, v1 in __refrigerator unless it slept in a way that may be frozen.
	w := readFD(p.wchan)
	e.frozen = w == "do_freezer_trap" || w == "__refrigerator" || p.cgroupFrozen()
}

// collect gathers the evidence; late is how long after its time it is asked.
func (p *procFiles) collect(now instant, late time.Duration) evidence {
	e := evidence{window: now - p.takenAt, late: late, slept: asleep() - p.slept}
	e.was, e.wasHeld = p.before.held()
	p.look(&e)
	p.advance(func(grown schedstat, state byte) { e.waits = e.waits || grown.waits(e.window, state) })
	e.ran, e.throttled = p.ran, p.throttled().between(p.quota, e.window)
	e.faults = majorFaults(readFD(p.stat)) - p.faults
	return e
}

// advance reads every thread, adds what it ran since the last time, and shows it to see. A thread that has ended meanwhile is not counted.
func (p *procFiles) advance(see func(grown schedstat, state byte)) {
	now := map[string]schedstat{}
	for _, tid := range p.threadNames() {
		u, ok := parseSchedstat(p.threadFile(tid, "schedstat"))
		if !ok {
			continue
		}
		now[tid] = u
		grown := u.minus(p.threads[tid])
		p.ran += grown.cpu
		if see != nil {
			see(grown, statState(p.threadFile(tid, "stat")))
		}
	}
	p.threads = now
}

func parseSchedstat(text string) (u schedstat, ok bool) {
	f := strings.Fields(text)
	if len(f) < 3 {
		return schedstat{}, false
	}
	cpu, _ := strconv.ParseInt(f[0], 10, 64)
	delay, _ := strconv.ParseInt(f[1], 10, 64)
	turns, _ := strconv.ParseUint(f[2], 10, 64)
	return schedstat{time.Duration(cpu), time.Duration(delay), turns}, true
}

func (p *procFiles) threadNames() (names []string) {
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
	for _, tid := range p.threadNames() {
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

// majorFaults is the twelfth field of proc/PID/stat: pages that had to be read from storage so far.
func majorFaults(stat string) uint64 {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 10 {
		return 0
	}
	n, _ := strconv.ParseUint(f[9], 10, 64)
	return n
}

// statState is the third field of proc/PID/stat. The second is the command in parentheses, which may hold any byte.
func statState(stat string) byte {
	i := strings.LastIndexByte(stat, ')')
	if i < 0 || i+2 >= len(stat) {
		return 0
	}
	return stat[i+2]
}
