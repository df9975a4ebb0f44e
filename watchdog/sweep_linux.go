package watchdog

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// sweeper performs what the ladder decides.
type sweeper struct {
	ladder ladder
	kids   *children
	errnos map[int32]syscall.Errno // of KILLs that were refused
	below  bool                    // the guarded processes below an agent that cannot die got KILL
}

// kill sends KILL to the children that the ladder names and returns how many they were. Between the listing and the kill
// nothing is reaped, so a number cannot have changed hands.
func (s *sweeper) kill(p phase) int {
	if p != sweeping {
		return 0
	}
	victims := s.ladder.victims(p, s.kids.living(s.kids.list()))
	for _, pid := range victims {
		if errno, ok := unix.Kill(int(pid), unix.SIGKILL).(syscall.Errno); ok {
			if s.errnos == nil {
				s.errnos = map[int32]syscall.Errno{}
			}
			s.errnos[pid] = errno
		}
	}
	return len(victims)
}

// killGuarded reaches what parentage does not: while the agent is unkillable its descendants are not our children.
func (s *sweeper) killGuarded(r *registry) {
	if s.below {
		return
	}
	s.below = true
	for _, g := range r.guards.all {
		if !r.kernel.dead(int(g.fd)) && unix.PidfdSendSignal(int(g.fd), unix.SIGKILL, nil, 0) == nil {
			s.ladder.killed++
		}
	}
}

// killBelow kills the children of an agent that cannot die. Nobody reaps them while it is there, so a number is still theirs. What
// they leave behind falls to the agent in turn, and the next look finds it.
func (s *sweeper) killBelow(agent *procFiles) int {
	victims := s.ladder.victims(sweeping, agent.children())
	for _, pid := range victims {
		_ = unix.Kill(int(pid), unix.SIGKILL)
	}
	return len(victims)
}

// populated reports whether a pool's cgroup still holds a process, and kills there when the phase says so. cgroup.kill is not
// sticky (a process may move in later), so it is written until the cgroup is empty.
func populated(r *registry, kill bool) bool {
	any := false
	for _, p := range r.pools {
		if p.events < 0 || !strings.Contains("\n"+readFD(p.events), "\npopulated 1") {
			continue // empty, or removed: ENODEV
		}
		any = true
		if kill {
			_, _ = unix.Write(p.kill, []byte{'1'})
		}
	}
	return any
}

// survivors describes what is left.
func (s *sweeper) survivors(r *registry, agent *procFiles, agentAlive bool) []survivor {
	var all []survivor
	for _, pid := range s.kids.list() {
		all = append(all, describe(pid, r.name(pid), s.errnos[pid]))
	}
	if agentAlive {
		named := map[int32]bool{}
		for _, g := range r.guards.all {
			if !r.kernel.dead(int(g.fd)) {
				named[int32(g.pid)] = true
				all = append(all, describe(int32(g.pid), g.name, 0))
			}
		}
		for _, pid := range agent.children() {
			if !named[pid] {
				all = append(all, describe(pid, "", 0))
			}
		}
	}
	if len(all) == 0 {
		for _, p := range r.pools {
			if p.events >= 0 && strings.Contains("\n"+readFD(p.events), "\npopulated 1") {
				all = append(all, survivor{name: "cgroup of " + p.name, state: "?"})
			}
		}
	}
	return all
}

// describe reads what the kernel says about one process, of the thread that keeps it: the leader may be a zombie while another one
// waits in the kernel. It opens files: nothing is left to be killed by then.
func describe(pid int32, name string, errno syscall.Errno) survivor {
	dir := "/proc/" + itoa(pid) + "/"
	s := survivor{pid: pid, name: name, state: "?", errno: int(errno)}
	tasks, _ := os.ReadDir(dir + "task")
	for _, task := range tasks {
		thread := dir + "task/" + task.Name() + "/"
		if c := statState(readFile(thread + "stat")); c != 0 && (s.state == "?" || s.state == "Z") {
			s.state, s.wchan = string(rune(c)), readFile(thread+"wchan")
		}
	}
	if _, after, ok := strings.Cut(readFile(dir+"status"), "\nTracerPid:\t"); ok {
		line, _, _ := strings.Cut(after, "\n")
		tracer, _ := strconv.ParseInt(line, 10, 32)
		s.tracer = int32(tracer)
	}
	return s
}

func readFile(path string) string {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	return readFD(fd)
}
