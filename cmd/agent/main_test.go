package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tokenEnv carries a random token through a whole tree: survivors are found by it, whatever parent or session they have.
const tokenEnv = "PITBOSS_TEST_TOKEN"

// patience bounds every wait for an event; it is long because two noisy cores may be shared.
const patience = 30 * time.Second

var binaries string // the directory of pitboss and pitboss-watchdog

// TestMain builds the real binaries once; PITBOSS_BIN names a directory that holds them already.
func TestMain(m *testing.M) {
	if mode := os.Getenv(attackMode); mode != "" {
		os.Exit(attack(mode))
	}
	binaries = os.Getenv("PITBOSS_BIN")
	if binaries != "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "pitboss-bin")
	if err == nil {
		err = os.Chmod(dir, 0o755) // another user runs them too
	}
	for name, source := range map[string]string{"pitboss": ".", "pitboss-watchdog": "../watchdog"} {
		build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, name), source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, e := build.CombinedOutput(); e != nil {
			err = errors.Join(err, e, errors.New(string(out)))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot build the binaries:", err)
		os.Exit(1)
	}
	binaries = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// host is an empty home with a runtime directory and one adapter, and a token for everything that is started in it.
type host struct {
	t     *testing.T
	dir   string
	token string
	env   []string
}

// newHost makes one; when the test ends, no process of it may be left.
func newHost(t *testing.T) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "pb") // short: a socket's path has at most 107 bytes
	must(t, err)
	h := &host{t: t, dir: dir, token: strconv.FormatInt(time.Now().UnixNano(), 36) + strconv.Itoa(os.Getpid())}
	tools, err := os.ReadFile("testdata/tools.py")
	must(t, err)
	must(t, os.WriteFile(h.path("tools.py"), tools, 0o644))
	h.env = []string{"PATH=" + binaries + ":" + os.Getenv("PATH"), "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, tokenEnv + "=" + h.token}
	for _, name := range []string{"PITBOSS_PYTHON", "GOCOVERDIR"} {
		if value := os.Getenv(name); value != "" {
			h.env = append(h.env, name+"="+value)
		}
	}
	t.Cleanup(func() {
		h.nobodyIsLeft()
		_ = os.RemoveAll(dir)
	})
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// alive lists the processes that carry the token and are not zombies.
func (h *host) alive() (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err == nil && bytes.Contains(append(env, 0), []byte(tokenEnv+"="+h.token+"\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}

func (h *host) nobodyIsLeft() {
	h.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); len(h.alive()) > 0; <-tick.C {
		if time.Now().After(deadline) {
			for _, pid := range h.alive() {
				line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				h.t.Errorf("process %d is left: %.200q", pid, line)
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			return
		}
	}
}

// TestTheCounterSeesAProcess is the instrument's control.
func TestTheCounterSeesAProcess(t *testing.T) {
	h := newHost(t)
	c := h.command("sleep", "600")
	must(t, c.Start())
	h.await("seen", func() bool { return len(h.alive()) == 1 })
	must(t, c.Process.Kill())
	_ = c.Wait()
	if n := len(h.alive()); n != 0 {
		t.Errorf("%d are seen after its end", n)
	}
}

func (h *host) await(what string, reached func() bool) {
	h.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !reached() {
		if time.Now().After(deadline) {
			h.t.Fatalf("not %s within %s", what, patience)
		}
		<-tick.C
	}
}

func (h *host) awaitFile(name string) {
	h.t.Helper()
	h.await("there: "+name, func() bool { _, err := os.Stat(h.path(name)); return err == nil })
}

// command is a program in this home.
func (h *host) command(name string, args ...string) *exec.Cmd {
	if name == "pitboss" {
		name = filepath.Join(binaries, name)
	}
	c := exec.Command(name, args...)
	c.Dir, c.Env = h.dir, h.env
	return c
}

// ended is what a program said and how it ended; 128+n for signal n.
type ended struct {
	code           int
	stdout, stderr string
}

// pitboss runs the command line to its end.
func (h *host) pitboss(args ...string) ended {
	h.t.Helper()
	return h.finish(h.command("pitboss", args...))
}

func (h *host) finish(c *exec.Cmd) ended {
	h.t.Helper()
	var stdout, stderr bytes.Buffer
	if c.Stdout == nil {
		c.Stdout = &stdout
	}
	c.Stderr = &stderr
	must(h.t, c.Start())
	timer := time.AfterFunc(2*patience, func() { _ = c.Process.Kill() })
	defer timer.Stop()
	_ = c.Wait()
	documentedExit(h.t, c.Path, c.Args[1:], exitCodeOf(c), c.ProcessState.ExitCode() < 0)
	return ended{exitCodeOf(c), stdout.String(), stderr.String()}
}

func exitCodeOf(c *exec.Cmd) int {
	status := c.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// want checks code and texts of stderr; a text that begins with ! must not be there.
func (e ended) want(t *testing.T, code int, texts ...string) {
	t.Helper()
	if e.code != code {
		t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", e.code, code, e.stdout, e.stderr)
	}
	for _, text := range texts {
		absent, negated := strings.CutPrefix(text, "!")
		if negated == strings.Contains(e.stderr, absent) {
			t.Errorf("stderr and %q:\n%s", text, e.stderr)
		}
	}
}

// service is `pitboss agent` (or `run`) in the background.
type service struct {
	*host
	cmd    *exec.Cmd
	stderr string // file
	done   chan struct{}
}

// serve starts an agent with this configuration and waits until every pool is ready.
func (h *host) serve(config string) *service {
	h.t.Helper()
	must(h.t, os.WriteFile(h.path("pitboss.yaml"), []byte(config), 0o644))
	s := h.start(h.command("pitboss", "agent", "--config", "pitboss.yaml"))
	s.awaitReady()
	return s
}

func (h *host) start(c *exec.Cmd) *service {
	h.t.Helper()
	log, err := os.CreateTemp(h.dir, "log")
	must(h.t, err)
	defer log.Close()
	if c.Stderr == nil {
		c.Stderr = log
	}
	must(h.t, c.Start())
	s := &service{host: h, cmd: c, stderr: log.Name(), done: make(chan struct{})}
	go func() { _ = c.Wait(); close(s.done) }()
	h.t.Cleanup(func() {
		select {
		case <-s.done:
		default:
			_ = c.Process.Signal(syscall.SIGTERM)
			_ = c.Process.Signal(syscall.SIGINT)
			s.exit()
		}
	})
	return s
}

// exit waits for the end and returns the exit code.
func (s *service) exit() int {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(2 * patience):
		_ = s.cmd.Process.Kill()
		<-s.done
		s.t.Errorf("the service does not end; log:\n%s", s.log())
	}
	documentedExit(s.t, s.cmd.Path, s.cmd.Args[1:], exitCodeOf(s.cmd), s.cmd.ProcessState.ExitCode() < 0)
	return exitCodeOf(s.cmd)
}

func (s *service) log() string {
	text, _ := os.ReadFile(s.stderr)
	return string(text)
}

func (s *service) awaitReady() {
	s.t.Helper()
	s.await("ready", func() bool {
		select {
		case <-s.done:
			s.t.Fatalf("the agent ended: %s", s.log())
		default:
		}
		st, ok := s.status()
		if !ok || len(st.Pools) == 0 {
			return false
		}
		for _, p := range st.Pools {
			if p.State != "ready" {
				return false
			}
		}
		return true
	})
}
