package client_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
)

const (
	// callerMode makes this test binary a program that launches an agent; tokenName marks everything that it starts.
	callerMode = "PITBOSS_TEST_CALLER"
	tokenName  = "PITBOSS_TEST_TOKEN"
	patience   = 60 * time.Second
)

// launchTools has an escapee: a process in a session of its own, whose parent is gone.
const launchTools = `
import os, subprocess, sys, time
import pitboss

@pitboss.tool
def add(a: int, b: int) -> int:
    return a + b

@pitboss.tool
def escape() -> int:
    p = subprocess.Popen([sys.executable, "-c", "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(600)"])
    p.wait()
    return p.returncode

@pitboss.tool
def nap(seconds: float, file: str) -> None:
    open(file, "w").close()
    time.sleep(seconds)
`

// beCaller launches an agent, says so, and ends as mode says.
func beCaller(mode string) int {
	fail := func(err error) int { fmt.Fprintln(os.Stderr, "caller:", err); return 1 }
	if mode == "early" { // killed while it launches
		fmt.Println("launching")
		_, err := client.Launch(context.Background(), client.LaunchOptions{Adapter: "tools.py"})
		return fail(err)
	}
	var a *client.Agent
	launched := make(chan error)
	go func() {
		// This goroutine's thread ends with it: a death signal bound to the thread would end the agent here.
		runtime.LockOSThread()
		var err error
		a, err = client.Launch(context.Background(), client.LaunchOptions{Adapter: "tools.py", Workers: 2, Flags: []string{"--kill-grace=200ms"}})
		launched <- err
	}()
	if err := <-launched; err != nil {
		return fail(err)
	}
	if code, err := client.Call[int](context.Background(), a.Client, "escape", nil); err != nil || code != 0 {
		return fail(fmt.Errorf("escape: %d %w", code, err))
	}
	switch mode {
	case "busy":
		begun, err := makeMark("begun")
		if err != nil {
			return fail(err)
		}
		go func() {
			_, err := client.Call[any](context.Background(), a.Client, "nap", map[string]any{"seconds": 600, "file": "begun"})
			fmt.Fprintln(os.Stderr, "nap ended:", err)
		}()
		if err := begun.wait(); err != nil {
			return fail(err)
		}
	case "close":
		if err := a.Close(); err != nil {
			return fail(err)
		}
		fmt.Println("closed")
		select {}
	}
	fmt.Println("up")
	in, _ := io.ReadAll(os.Stdin) // until the test says how to go on
	switch {
	case mode == "panic" && len(in) > 0:
		panic("as told")
	case len(in) > 0:
		os.Exit(3)
	}
	select {}
}

// caller is this binary as a program of its own.
type caller struct {
	t     *testing.T
	token string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

func startCaller(t *testing.T, mode string) *caller {
	t.Helper()
	dir := shortDir(t)
	c := &caller{t: t, token: strconv.FormatInt(time.Now().UnixNano(), 36) + "-" + strconv.Itoa(os.Getpid()), cmd: exec.Command(os.Args[0])}
	c.cmd.Dir = dir
	c.cmd.Env = append(os.Environ(), callerMode+"="+mode, tokenName+"="+c.token, "XDG_RUNTIME_DIR="+dir)
	c.cmd.Stderr = os.Stderr
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(stdout)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.cmd.Process.Kill(); _ = c.cmd.Wait() })
	return c
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "tools.py"), []byte(launchTools), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (c *caller) says(want string) {
	c.t.Helper()
	timer := time.AfterFunc(patience, func() { _ = c.cmd.Process.Kill() })
	defer timer.Stop()
	if !c.lines.Scan() || c.lines.Text() != want {
		c.t.Fatalf("the caller said %q, not %q", c.lines.Text(), want)
	}
}

// alive counts the processes with the token besides the caller itself; zombies have no environment any more.
func (c *caller) alive() (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err == nil && pid != c.cmd.Process.Pid && bytes.Contains(append(env, 0), []byte(tokenName+"="+c.token+"\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (c *caller) nobodyIsLeft() {
	c.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); len(c.alive()) > 0; <-tick.C {
		if time.Now().After(deadline) {
			for _, pid := range c.alive() {
				line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				c.t.Errorf("process %d is left: %.200q", pid, line)
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			return
		}
	}
}

// TestALaunchedAgentDiesWithItsCaller, however that ends: watchdog, agent, launcher, two keepers, two workers and an escapee.
func TestALaunchedAgentDiesWithItsCaller(t *testing.T) {
	for _, mode := range []string{"kill", "busy", "exit", "panic", "close"} {
		t.Run(mode, func(t *testing.T) {
			c := startCaller(t, mode)
			if mode == "close" {
				c.says("closed")
				c.nobodyIsLeft() // while the caller lives
				return
			}
			c.says("up")
			if n := len(c.alive()); n != 8 {
				t.Errorf("%d processes, want 8: the instrument or the tree is not what it should be", n)
			}
			switch mode {
			case "kill", "busy":
				_ = c.cmd.Process.Kill()
			case "exit", "panic":
				fmt.Fprintln(c.stdin, "go on")
				_ = c.stdin.Close()
			}
			_ = c.cmd.Wait()
			c.nobodyIsLeft()
		})
	}
}

// TestALaunchThatIsKilledInTheMiddle at many moments leaves nobody.
func TestALaunchThatIsKilledInTheMiddle(t *testing.T) {
	for i := range 10 {
		c := startCaller(t, "early")
		c.says("launching")
		time.Sleep(time.Duration(i) * 12 * time.Millisecond) // the moment is the parameter, nothing settles
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		c.nobodyIsLeft()
	}
}

func TestLaunch(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", shortDir(t))
	dir := shortDir(t)
	var log bytes.Buffer
	a, err := client.Launch(within(t, patience), client.LaunchOptions{Adapter: "tools.py", Dir: dir, Workers: 1, Stderr: &log})
	if err != nil {
		t.Fatal(err)
	}
	if sum, err := client.Call[int](within(t, patience), a.Client, "add", map[string]any{"a": 1, "b": 2}); err != nil || sum != 3 {
		t.Errorf("%d %v", sum, err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("%v: %s", err, &log)
	}
	if _, err := os.Stat(a.Socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}

	ctx, cancel := context.WithCancel(within(t, patience))
	if a, err = client.Launch(ctx, client.LaunchOptions{Adapter: "tools.py", Dir: dir, Workers: 1, Stderr: io.Discard}); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-a.Done():
	case <-time.After(patience):
		t.Error("the agent outlives its context")
	}
	_ = a.Close()
}

func TestALaunchThatCannotSucceedSaysWhy(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", shortDir(t))
	dir := shortDir(t)
	if err := os.WriteFile(filepath.Join(dir, "broken.py"), []byte("raise RuntimeError('no model')\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		options client.LaunchOptions
		want    string
	}{
		{client.LaunchOptions{}, "no adapter is named"},
		{client.LaunchOptions{Adapter: "tools.py", Binary: "/no/such/pitboss"}, "/no/such/pitboss"},
		{client.LaunchOptions{Adapter: "broken.py"}, "no model"},
		{client.LaunchOptions{Adapter: "missing.py"}, "missing.py"},
		{client.LaunchOptions{Adapter: "tools.py", Workers: -1}, "workers"},
		{client.LaunchOptions{Adapter: "tools.py", Flags: []string{"--watchdog=off"}}, "needs the watchdog"},
	} {
		c.options.Dir, c.options.Stderr = dir, io.Discard
		_, err := client.Launch(within(t, patience), c.options)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.options, err)
		}
	}
}
