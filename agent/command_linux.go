package agent

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Command is the program of a sidecar: started beside the pools, and they end with it.
type Command struct {
	process *pidfd
	agent   *Agent
	tty     int // the terminal whose foreground it is, −1 without one
}

// StartCommand starts argv as a child of the agent in a process group of its own. If stdin is a terminal it becomes the
// terminal's foreground group, so that Ctrl-C and Ctrl-Z are its alone, as under a shell. Of env it gets what is not the
// agent's alone.
func (a *Agent) StartCommand(argv, env []string) (*Command, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, err
	}
	sys := &syscall.SysProcAttr{Setpgid: true}
	tty := -1
	if _, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err == nil {
		tty = 0
		sys.Foreground, sys.Ctty = true, 0
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	env = slices.DeleteFunc(env, func(entry string) bool { name, _, _ := strings.Cut(entry, "="); return private(name) })
	process, err := a.children.start(path, argv, env, dir, []*os.File{os.Stdin, os.Stdout, os.Stderr}, sys)
	if err != nil {
		return nil, err
	}
	if err := a.guard.guard(guardLauncher, "command "+argv[0], process); err != nil {
		_ = process.signal(syscall.SIGKILL)
		_ = process.wait()
		_, _ = a.children.reap(process)
		process.close()
		return nil, err
	}
	return &Command{process, a, tty}, nil
}

// Wait returns the exit code of the command, 128 plus the signal's number if one ended it.
func (c *Command) Wait() int {
	_ = c.process.wait()
	status, err := c.agent.children.reap(c.process)
	c.agent.guard.release(c.process)
	if c.tty >= 0 {
		// The terminal goes back to whoever the shell gave it to; we are in the background, where setting it stops us by default.
		if group, err := unix.Getpgid(os.Getppid()); err == nil {
			_ = unix.IoctlSetPointerInt(c.tty, unix.TIOCSPGRP, group)
		}
	}
	if err != nil {
		return 1
	}
	if status < 0 {
		return 128 - status
	}
	return status
}

// Signal signals the command's process; it is an error-free no-op when that has ended.
func (c *Command) Signal(sig syscall.Signal) { _ = c.process.signal(sig) }
