package watchdog

import (
	"os"
	"runtime"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

// Main is the whole program: it returns the exit code. args are without the program's name.
//
// Exit codes: what the agent announced · the status of a command that never was an agent · 64 usage · 69 no such command ·
// 70 the agent died, or something is left that could not be killed · 75 another watchdog holds the lock · of an outer process:
// the inner one's, 128 + n if signal n ended it.
func Main(args []string) int {
	// Children are listed per thread: this goroutine, which makes them all, never leaves its thread. In the program it has the main one.
	runtime.LockOSThread()
	tune(args)
	out := newWriter(2)
	code, f := run(args, out)
	if f != nil {
		out.line(f.text)
		return f.code
	}
	return code
}

func run(args []string, out *writer) (int, *failure) {
	cfg, f := parseFlags(args)
	if f != nil {
		return 0, f
	}
	if cfg.help {
		_, _ = unix.Write(1, []byte(usage+"\n"))
		return exitOK, nil
	}
	if cfg.version {
		_, _ = unix.Write(1, []byte("pitboss-watchdog "+ipc.Version+"\n"))
		return exitOK, nil
	}
	mark := -1
	if cfg.inner {
		if mark, f = innerMark(os.Getenv(envInner)); f != nil {
			return 0, f
		}
	}
	self := unix.Getpid()
	if mark >= 0 {
		self = unix.Getppid() // the service manager speaks to the process that it started
	}
	m := readManager(os.Environ(), self)
	closeOnExec(listenStart + m.listen)
	signals, f := openSignals()
	if f != nil {
		return 0, f
	}
	parent, f := watchParent(&cfg, mark)
	if f != nil {
		return 0, f
	}
	m.cgroup = enterSupervisor(os.Getenv(envCgroup), os.Getenv(envCgroupDir))
	if m.cgroup.refused != "" && mark < 0 {
		out.line("no kill tier cgroup: " + m.cgroup.refused)
	}
	reserveThreads(threadReserve)
	if mark < 0 && (self == 1 || hasChildren()) {
		return runOuter(&cfg, m, signals, parent, out)
	}
	return runInner(&cfg, m, mark, signals, parent, out)
}

// runInner is the watchdog proper: lock, subreaper, agent, loop.
func runInner(cfg *config, m manager, mark int, signals *signalPipe, parent int, out *writer) (int, *failure) {
	kids, f := openChildren()
	if f != nil {
		return 0, f
	}
	lock, f := takeLock(cfg.lock)
	if f != nil {
		return 0, f
	}
	agent, guard, f := startAgent(cfg, m, lock)
	if f != nil {
		return 0, f
	}
	for fd := listenStart; fd < listenStart+m.listen; fd++ {
		unix.CloseOnExec(fd)
	}
	l := &loop{cfg: *cfg, engine: newEngine(cfg.agentTimeout, cfg.stopTimeout), agent: agent, link: newLink(guard), kids: kids,
		sweeper: sweeper{kids: kids}, signals: signals, notify: newNotifier(m, mark, monotonic()), out: out,
		proc: openProc(agent.pid), parent: parent}
	return l.run(), nil
}

// startAgent gives the agent standard input, output and error, the listeners at the numbers where they were, then its end of the
// guard link and of the lock.
func startAgent(cfg *config, m manager, lock int) (*process, int, *failure) {
	mine, theirs, err := ipc.PacketPair()
	if err != nil {
		return nil, -1, &failure{exitInternal, err.Error()}
	}
	files := []int{0, 1, 2}
	for i := range m.listen {
		files = append(files, listenStart+i)
	}
	set := []string{envGuard + "=" + itoa(len(files))}
	files = append(files, theirs)
	if lock >= 0 {
		set = append(set, envLock+"="+itoa(len(files)))
		files = append(files, lock)
	}
	if m.listen > 0 {
		set = append(set, envListenFDs+"="+itoa(m.listen), envListenName+"="+m.names)
	}
	set = append(set, m.cgroup.env()...)
	agent, f := start(cfg.command, agentEnv(untunedEnv(os.Environ()), set...), files)
	_ = unix.Close(theirs)
	return agent, mine, f
}

// watchParent opens a pidfd of the process to live and die with: the one named by --die-with-parent, or the outer process. It is
// believed only while it is the parent: a number read before that could be somebody else's.
func watchParent(cfg *config, mark int) (int, *failure) {
	pid := cfg.parent
	if mark >= 0 {
		pid = unix.Getppid()
	}
	if pid == 0 && mark < 0 {
		return -1, nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil && unix.Getppid() == pid {
		return fd, nil
	}
	if err == nil {
		_ = unix.Close(fd)
		return -1, &failure{exitInternal, "cannot watch process " + itoa(pid) + ": the parent is process " + itoa(unix.Getppid()) + "; it ended before, or the number is wrong"}
	}
	return -1, &failure{exitInternal, "cannot watch process " + itoa(pid) + ": " + err.Error()}
}
