package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"golang.org/x/sys/unix"
)

const tokenEnv = "PITBOSS_BENCH_TOKEN"

// tree is a real agent under its watchdog.
type tree struct {
	h      *host
	token  string
	socket string
	cmd    *exec.Cmd
	status agent.Status
}

// startTree starts one with so many workers and waits until all are ready. extra is environment.
func (h *host) startTree(workers int, grace time.Duration, extra ...string) (*tree, error) {
	dir, err := os.MkdirTemp(h.dir, "t")
	if err != nil {
		return nil, err
	}
	adapter := h.peer("tools.py")
	config := fmt.Sprintf("pools:\n  - {name: default, adapter: %s, python: %s, workers: %d, timeouts: {kill: %s}}\nlog: {level: error}\n", adapter, h.python, workers, grace)
	file := filepath.Join(dir, "pitboss.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	t := &tree{h: h, token: filepath.Base(dir) + strconv.Itoa(os.Getpid()), socket: filepath.Join(dir, "s")}
	t.cmd = exec.Command(filepath.Join(h.bin, "pitboss"), "--socket", t.socket, "agent", "--die-with-parent", "--config", file)
	t.cmd.Env = append(append(os.Environ(), "XDG_RUNTIME_DIR="+dir, tokenEnv+"="+t.token), extra...)
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	return t, t.awaitReady(workers)
}

func (t *tree) awaitReady(workers int) error {
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		text, err := exec.Command(filepath.Join(t.h.bin, "pitboss"), "--socket", t.socket, "--json", "status").Output()
		if err == nil && json.Unmarshal(text, &t.status) == nil && len(t.status.Pools) == 1 && t.status.Pools[0].Ready == workers {
			return nil
		}
	}
	return errors.New("the workers are not ready within two minutes")
}

// processes are the pids that carry the token, by /proc.
func (t *tree) processes() (pids []int) {
	mark := []byte(tokenEnv + "=" + t.token + "\x00")
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err == nil && bytes.Contains(append(env, 0), mark) {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}

// watchDeaths returns the time from now to the death of the last of these processes, by their pidfds, once act is done.
func watchDeaths(pids []int, act func() error, limit time.Duration) (samples, error) {
	var fds []unix.PollFd
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return nil, fmt.Errorf("cannot watch process %d: %w", pid, err)
		}
		defer unix.Close(fd)
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	start := time.Now()
	if err := act(); err != nil {
		return nil, err
	}
	var deaths samples
	for len(fds) > 0 {
		if _, err := unix.Poll(fds, int(limit/time.Millisecond)); err != nil && err != unix.EINTR {
			return nil, err
		}
		now := time.Since(start)
		if now > limit {
			return nil, fmt.Errorf("%d processes live %s after the kill", len(fds), limit)
		}
		left := fds[:0]
		for _, fd := range fds {
			if fd.Revents != 0 {
				deaths = append(deaths, now)
			} else {
				left = append(left, fd)
			}
		}
		fds = left
	}
	return deaths, nil
}

// kill SIGKILLs the agent and returns how long the last process of the tree lived.
func (t *tree) kill(limit time.Duration) (time.Duration, error) {
	deaths, err := watchDeaths(t.processes(), func() error { return syscall.Kill(t.status.Agent.PID, syscall.SIGKILL) }, limit)
	_ = t.cmd.Wait()
	if err != nil {
		return 0, err
	}
	if left := t.processes(); len(left) != 0 {
		return 0, fmt.Errorf("%d survivors", len(left))
	}
	return deaths.at(1), nil
}

func (t *tree) stop() {
	_ = t.cmd.Process.Signal(syscall.SIGTERM)
	_ = t.cmd.Wait()
}
