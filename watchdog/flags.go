package watchdog

import (
	"strconv"
	"strings"
	"time"
)

const (
	defaultAgentTimeout = 8 * time.Second
	defaultStopTimeout  = 45 * time.Second
	minTimeout          = 100 * time.Millisecond
	maxTimeout          = 24 * time.Hour
)

// config is the command line.
type config struct {
	lock         string        // file to flock, "" for none
	runtimeDir   string        // where last-death.json goes, "" for nowhere
	removeDir    bool          // remove runtimeDir at the very end
	agentTimeout time.Duration // silence that is judged, 100 ms to 24 h, default 8 s
	stopTimeout  time.Duration // from the first stop signal to KILL, 100 ms to 24 h, default 45 s
	parent       int           // pid of the program to live and die with, 0 for none
	version      bool
	help         bool
	inner        bool // started by an outer watchdog
	command      []string
}

// failure ends the program before there is an agent.
type failure struct {
	code int
	text string
}

func (f *failure) Error() string { return f.text }

func usageError(text string) *failure {
	return &failure{exitUsage, text + "\n" + usage}
}

const usage = `usage: pitboss-watchdog [flags] -- COMMAND [ARGUMENT…]
  --lock FILE            hold this file locked for as long as the watchdog or the agent lives
  --runtime-dir DIR      write last-death.json here when the agent died
  --remove-dir           remove the runtime directory at the very end
  --agent-timeout 8s     judge an agent that has not beaten for this long (100ms to 24h)
  --stop-timeout 45s     kill an agent this long after the first stop signal (100ms to 24h)
  --die-with-parent PID  stop when the process PID, which must be the parent, ends
  --version              print the version
  --help                 print this usage`

// parseFlags reads the command line; flags may be written "--name value" or "--name=value".
func parseFlags(args []string) (config, *failure) {
	c := config{agentTimeout: defaultAgentTimeout, stopTimeout: defaultStopTimeout}
	for len(args) > 0 {
		name := args[0]
		args = args[1:]
		if name == "--" {
			c.command = args
			break
		}
		name, value, inline := strings.Cut(name, "=")
		on := c.boolFlag(name)
		if on != nil && !inline {
			*on = true
			continue
		}
		if on != nil {
			return c, usageError("cannot use " + strconv.Quote(name) + ": it takes no value")
		}
		if !inline {
			if len(args) == 0 {
				return c, usageError("cannot use " + strconv.Quote(name) + ": it is unknown or needs a value")
			}
			value, args = args[0], args[1:]
		}
		if f := c.set(name, value); f != nil {
			return c, f
		}
	}
	switch {
	case c.version, c.help:
	case len(c.command) == 0:
		return c, usageError("cannot start: no command after --")
	case c.removeDir && c.runtimeDir == "":
		return c, usageError("cannot use --remove-dir without --runtime-dir")
	}
	return c, nil
}

func (c *config) boolFlag(name string) *bool {
	switch name {
	case "--remove-dir":
		return &c.removeDir
	case "--version":
		return &c.version
	case "--help", "-h":
		return &c.help
	case "--inner":
		return &c.inner
	}
	return nil
}

func (c *config) set(name, value string) *failure {
	bad := func(want string) *failure {
		return usageError("cannot use " + name + " " + strconv.Quote(value) + ": want " + want)
	}
	var err error
	switch name {
	case "--lock", "--runtime-dir":
		if value == "" {
			return bad("a path")
		}
		if name == "--lock" {
			c.lock = value
		} else {
			c.runtimeDir = value
		}
	case "--agent-timeout", "--stop-timeout":
		var d time.Duration
		if d, err = time.ParseDuration(value); err != nil || d < minTimeout || d > maxTimeout {
			return bad("a duration from 100ms to 24h")
		}
		if name == "--agent-timeout" {
			c.agentTimeout = d
		} else {
			c.stopTimeout = d
		}
	case "--die-with-parent":
		if c.parent, err = strconv.Atoi(value); err != nil || c.parent <= 0 {
			return bad("a process id")
		}
	default:
		return usageError("cannot use " + strconv.Quote(name) + ": no such flag")
	}
	return nil
}

// innerArgs is the command line of the inner process: the same without the parent, which the outer one watches.
func (c *config) innerArgs() []string {
	args := []string{"--inner", "--agent-timeout", c.agentTimeout.String(), "--stop-timeout", c.stopTimeout.String()}
	if c.lock != "" {
		args = append(args, "--lock", c.lock)
	}
	if c.runtimeDir != "" {
		args = append(args, "--runtime-dir", c.runtimeDir)
	}
	if c.removeDir {
		args = append(args, "--remove-dir")
	}
	return append(append(args, "--"), c.command...)
}
