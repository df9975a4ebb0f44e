package watchdog

import (
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is a child with its pidfd.
type process struct {
	pid    int
	fd     int // pidfd
	dead   bool
	reaped bool
	status unix.WaitStatus // valid once reaped
}

// signal reaches this process or nobody, whatever has become of its number.
func (p *process) signal(n int) {
	if !p.dead {
		_ = unix.PidfdSendSignal(p.fd, syscall.Signal(n), nil, 0)
	}
}

// cause is how a dead process ended: "exit N", "signal SIGX", or "unknown" while a tracer keeps its status.
func (p *process) cause() string {
	if !p.reaped {
		return "unknown"
	}
	if p.status.Signaled() {
		if name := unix.SignalName(p.status.Signal()); name != "" {
			return "signal " + name
		}
		return "signal " + itoa(p.status.Signal()) // a real-time signal has no name
	}
	return "exit " + itoa(p.status.ExitStatus())
}

// start clones from the calling thread, which must be the one whose children are listed. The child gets a process group of
// its own, so that a terminal signals nobody twice, and exactly the given descriptors at 0, 1, 2, …; the soft limit of open
// files is what it was before the Go runtime raised it, because syscall.ForkExec restores it.
func start(command, env []string, files []int) (*process, *failure) {
	path, err := lookPath(command[0], env)
	if err != nil {
		return nil, startFailure(command[0], err)
	}
	p := &process{fd: -1}
	attr := &syscall.ProcAttr{Env: env, Sys: &syscall.SysProcAttr{Setpgid: true, PidFD: &p.fd}}
	for _, fd := range files {
		attr.Files = append(attr.Files, uintptr(fd))
	}
	p.pid, err = syscall.ForkExec(path, command, attr)
	if err == unix.ENOSYS || err == unix.EPERM || err == unix.EINVAL { // a sandbox may refuse the clone flag; another's error comes again
		attr.Sys.PidFD = nil
		p.pid, err = syscall.ForkExec(path, command, attr)
	}
	if err != nil {
		return nil, startFailure(command[0], err)
	}
	if p.fd < 0 { // the unreaped child cannot lose its number
		p.fd, err = unix.PidfdOpen(p.pid, 0)
	}
	if err != nil {
		_ = unix.Kill(p.pid, unix.SIGKILL)
		return nil, &failure{exitInternal, "cannot open a pidfd: " + err.Error() + "; pitboss needs Linux 5.4 or later"}
	}
	return p, nil
}

func startFailure(name string, err error) *failure {
	code, hint := exitInternal, ""
	if err == unix.ENOENT || err == unix.ENOTDIR {
		code, hint = exitNotFound, "; give its path, or put it on PATH"
	}
	return &failure{code, "cannot start " + quote(name) + ": " + err.Error() + hint}
}

// lookPath finds a command as execvp(3) does.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := "/usr/local/bin:/usr/bin:/bin"
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	found := error(unix.ENOENT)
	for _, dir := range strings.Split(path, ":") {
		if dir == "" {
			dir = "."
		}
		var st unix.Stat_t
		file := dir + "/" + name
		if unix.Stat(file, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		if err := unix.Access(file, unix.X_OK); err != nil {
			found = err
			continue
		}
		return file, nil
	}
	return "", found
}

// closeOnExec marks every descriptor from first on: a child gets what its list names and nothing that somebody forgot.
func closeOnExec(first int) {
	if unix.CloseRange(uint(first), 1<<31-1, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	closeEachOnExec(first)
}

// closeEachOnExec does the same before Linux 5.11, which has no such flag.
func closeEachOnExec(first int) {
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, entry := range dir {
		if fd, ok := number(entry.Name()); ok && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
}
