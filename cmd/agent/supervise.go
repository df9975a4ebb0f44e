package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/client"
)

// stopMargin is what a stop needs beyond drain and kill grace: last proofs and the end of the launchers.
const stopMargin = 12 * time.Second

// place is where one agent lives.
type place struct {
	runtimeDir string
	socket     string
	private    bool // the directory is this run's alone, and goes with it
	parent     int  // the process to live and die with, 0 for none
}

// absolute makes both paths independent of the working directory, which a launcher does not share.
func (p place) absolute() (place, error) {
	for _, path := range []*string{&p.runtimeDir, &p.socket} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return p, fail(exitInternal, "", "cannot make %q absolute: %w", *path, err)
		}
		*path = abs
	}
	return p, nil
}

// runtimeBase is the directory below which agents of this user have theirs.
func runtimeBase() string {
	switch {
	case os.Getenv("XDG_RUNTIME_DIR") != "":
		return filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "pitboss")
	case os.Geteuid() == 0:
		return "/run/pitboss"
	}
	return sharedBase()
}

// sharedBase is the place of a user without a runtime directory. Anybody may have made it before.
func sharedBase() string { return client.UserDir(os.Getenv) }

func defaultSocket(instance string) string { return filepath.Join(runtimeBase(), instance+".sock") }

// makeDir creates a directory of ours alone, and refuses one that somebody else could have prepared.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(exitPermission, "name another place with --runtime-dir", "cannot create %q: %w", dir, err)
	}
	return checkOurs(dir, "remove it or name another place with --runtime-dir")
}

// checkOurs refuses a directory that somebody else owns or may write.
func checkOurs(dir, next string) error {
	if err := client.OwnDir(dir); err != nil {
		return fail(exitPermission, next, "%w", err)
	}
	return nil
}

// watchdogPath finds the watchdog: $PITBOSS_WATCHDOG, then beside our own binary.
func watchdogPath(self string) (string, error) {
	choices := []string{os.Getenv("PITBOSS_WATCHDOG")}
	if choices[0] == "" {
		dir := filepath.Dir(self)
		choices = []string{filepath.Join(dir, "pitboss-watchdog"), filepath.Join(dir, "watchdog")}
	}
	for _, c := range choices {
		if info, err := os.Stat(c); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return c, nil
		}
	}
	return "", fail(exitConfig, "install it there, set $PITBOSS_WATCHDOG, or run without one (watchdog.mode: off, or run --watchdog=off)",
		"cannot find the watchdog; looked for %s", strings.Join(choices, " and "))
}

// underWatchdog replaces this process by the watchdog, which starts us again as its child. It returns only if it fails.
func underWatchdog(cfg agent.Config, p place, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return fail(exitInternal, "", "cannot find our own binary: %w", err)
	}
	watchdog, err := watchdogPath(self)
	if err != nil {
		return err
	}
	if err := makeDir(p.runtimeDir); err != nil {
		return err
	}
	argv := []string{"pitboss-watchdog", "--lock", filepath.Join(p.runtimeDir, "agent.lock"), "--runtime-dir", p.runtimeDir,
		"--agent-timeout", cfg.Watchdog.AgentTimeout.String(), "--stop-timeout", stopTimeout(cfg).String()}
	if p.private {
		argv = append(argv, "--remove-dir")
	}
	if p.parent != 0 {
		argv = append(argv, "--die-with-parent", strconv.Itoa(p.parent))
	}
	argv = append(append(argv, "--", self), args...)
	err = syscall.Exec(watchdog, argv, os.Environ())
	return fail(exitInternal, "", "cannot start the watchdog %q: %w", watchdog, err)
}

// newAgent builds the agent of this process and makes main tell its watchdog how it ends.
func newAgent(o agent.Options) (*agent.Agent, error) {
	debug.SetTraceback("all") // an ABRT of the watchdog shows every goroutine
	signal.Ignore(syscall.SIGPIPE)
	reserveThreads(threadReserve)
	for _, dir := range []string{o.LibraryDir, o.RuntimeDir} {
		if err := makeDir(dir); err != nil {
			return nil, err
		}
	}
	aimForMemory(o.Config)
	a, err := agent.New(o)
	if err != nil {
		return nil, fail(exitConfig, "", "%w", err)
	}
	supervised.Store(a)
	return a, nil
}

// aimForMemory sets the runtime's soft limit, unless the user has. It only grows: a reload that fails after it costs nothing.
func aimForMemory(cfg agent.Config) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	const ask = -1 // debug.SetMemoryLimit changes nothing then
	now := debug.SetMemoryLimit(ask)
	if target := cfg.MemoryTarget(); now == math.MaxInt64 || now < target {
		debug.SetMemoryLimit(target)
	}
}

// handleSignals turns signals into orders until done is closed: INT and TERM drain, a second one hurries, QUIT prints all
// goroutines and goes on.
func handleSignals(a *agent.Agent, out *agent.LogWriter, done <-chan struct{}) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	stopping := false
	var reloads sync.WaitGroup
	defer reloads.Wait()
	for {
		select {
		case <-done:
			return
		case s := <-signals:
			switch {
			case s == syscall.SIGQUIT:
				stacks := make([]byte, 1<<19) // half of what may wait
				out.Line(string(stacks[:runtime.Stack(stacks, true)]))
			case s == syscall.SIGHUP:
				reloads.Go(func() {
					_, _ = a.Reload(context.Background()) // an event tells how it went
				})
			case stopping:
				a.Hurry()
			default:
				stopping = true
				if n := a.Running(); n > 0 {
					out.Line(fmt.Sprintf("pitboss: %s running, again to kill now", counted(n, "call")))
				}
				a.Stop(s.String())
			}
		}
	}
}

// configFile is --config, or the system's file if there is one.
func configFile(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	const system = "/etc/pitboss/pitboss.yaml"
	if _, err := os.Stat(system); errors.Is(err, fs.ErrNotExist) {
		return "", fail(exitConfig, "name one with --config, or try `pitboss run ADAPTER`, which needs none", "no configuration: there is no %s", system)
	}
	return system, nil
}
