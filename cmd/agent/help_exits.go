package main

import (
	"maps"
	"slices"

	"github.com/spf13/cobra"
)

// exits are the exit codes that a command can end with, each with what it says.
type exits map[int]string

// exitText is what a code says unless a command has its own words for it.
var exitText = exits{
	exitOK:          "done",
	exitFailed:      "the output cannot be written",
	exitUsage:       "wrong command line",
	exitUnavailable: "no agent answers",
	exitInternal:    "a fault of pitboss",
	exitTemporary:   "the agent does not answer",
	exitPermission:  "the socket or your role does not allow it",
	exitConfig:      "wrong configuration",
	exitInterrupted: "interrupted",
}

// local are the codes of a command that asks no agent, with more words for some or more codes.
func local(more exits) exits {
	codes := exits{}
	for _, code := range []int{exitOK, exitFailed, exitUsage} {
		codes[code] = exitText[code]
	}
	maps.Copy(codes, more)
	return codes
}

// asking are those of a command that asks an agent.
func asking(more exits) exits {
	codes := local(nil)
	for _, code := range []int{exitUnavailable, exitInternal, exitTemporary, exitPermission} {
		codes[code] = exitText[code]
	}
	maps.Copy(codes, more)
	return codes
}

// silent is for a command that prints nothing.
func silent(codes exits) exits {
	delete(codes, exitFailed)
	return codes
}

const (
	noPool   = "wrong command line, or no such pool"
	noWorker = "wrong command line, or no such worker"
	noCall   = "wrong command line, or no such call"
	ending   = "the agent or the pool is ending"
)

// commandExits is the one table of exit codes by command, for --help and the man pages.
var commandExits = map[string]exits{
	"pitboss": {
		exitOK:          "done",
		exitFailed:      "the tool raised, a check failed, or the output cannot be written",
		exitUsage:       "wrong command line, or a name that the agent does not know",
		exitArguments:   "wrong arguments for the tool",
		exitUnavailable: "no agent, pool failed, or worker died",
		exitInternal:    "a fault of pitboss, or the agent died",
		exitTemporary:   "queue full, draining, timed out, or another agent holds the lock",
		exitPermission:  "not allowed",
		exitConfig:      "wrong configuration",
		exitInterrupted: "interrupted or cancelled",
	},
	"pitboss run": local(exits{
		exitFailed:      "the tool raised, or the output cannot be written",
		exitUsage:       "wrong command line, or no such tool",
		exitArguments:   "wrong arguments for the tool",
		exitUnavailable: "adapter or socket cannot be used, or the worker died",
		exitInternal:    "a fault of pitboss, or the agent died",
		exitTemporary:   "the call timed out, the run is ending, or --runtime-dir is in use",
		exitPermission:  "a directory belongs to somebody else, or cannot be made",
		exitConfig:      "adapter, interpreter, watchdog or the value of a flag is wrong",
		exitInterrupted: "interrupted or cancelled",
	}),
	"pitboss agent": local(exits{
		exitOK:          "stopped",
		exitUnavailable: "the agent cannot serve",
		exitInternal:    "the agent died; its death certificate is on standard error",
		exitTemporary:   "another agent holds the lock",
		exitPermission:  "a directory belongs to somebody else, or cannot be made",
		exitConfig:      "wrong configuration, adapter or interpreter, or no watchdog",
	}),
	"pitboss call": asking(exits{
		exitFailed:      "the tool raised, or the output cannot be written",
		exitUsage:       "wrong command line, or no such tool or pool",
		exitArguments:   "wrong arguments for the tool, or too large",
		exitUnavailable: "no agent, pool failed, or worker died",
		exitTemporary:   "queue full, draining, or timed out",
		exitInterrupted: "interrupted or cancelled",
	}),
	"pitboss tools":   asking(exits{exitUsage: noPool}),
	"pitboss status":  asking(nil),
	"pitboss workers": asking(exits{exitUsage: noPool}),
	"pitboss calls":   asking(exits{exitUsage: noPool}),
	"pitboss explain": asking(exits{exitUsage: noCall}),
	"pitboss events":  asking(exits{exitUnavailable: "no agent answers, or it has ended under --follow", exitInterrupted: "interrupted"}),
	"pitboss logs": asking(exits{exitUsage: "wrong command line, or no such pool or worker",
		exitUnavailable: "no agent answers, or it has ended under --follow", exitInterrupted: "interrupted"}),
	"pitboss ping": asking(exits{exitUsage: noWorker, exitUnavailable: "no agent answers, or the worker ended before it did",
		exitTemporary: "the worker did not answer within 5 s"}),
	"pitboss stack": asking(exits{exitUsage: noWorker, exitUnavailable: "no agent answers, or the worker ended before it did",
		exitTemporary: "the worker did not write its stacks in time"}),
	"pitboss cancel": asking(exits{exitUsage: noCall}),
	"pitboss restart": asking(exits{exitUsage: "wrong command line, or no such pool or worker",
		exitUnavailable: "no agent answers, or the new worker cannot start",
		exitTemporary:   "it restarts already, or is ending"}),
	"pitboss drain":  asking(exits{exitUsage: noPool, exitTemporary: "calls still run after --timeout, or the pool is ending"}),
	"pitboss resume": asking(exits{exitUsage: noPool, exitTemporary: ending}),
	"pitboss scale": asking(exits{exitUsage: noPool, exitArguments: "more workers than the agent may open files for",
		exitTemporary: ending}),
	"pitboss reload": asking(exits{exitTemporary: "a reload goes on already, or the agent is ending",
		exitConfig: "wrong configuration, or none to reload; nothing has changed"}),
	"pitboss stop": silent(asking(nil)),
	"pitboss wait": asking(exits{exitUsage: noPool, exitUnavailable: "no agent in time, or a pool has failed",
		exitTemporary: "the agent is there and not ready in time", exitInterrupted: "interrupted"}),
	"pitboss health": asking(exits{exitOK: "calls are taken", exitFailed: "a pool does not serve", exitUsage: noPool,
		exitTemporary: "the agent does not answer in time", exitInterrupted: "interrupted"}),
	"pitboss config":          local(nil),
	"pitboss config check":    local(exits{exitOK: "no fault", exitConfig: "a fault, or no such file"}),
	"pitboss config show":     local(exits{exitConfig: "a fault, or no configuration"}),
	"pitboss config defaults": local(nil),
	"pitboss new": local(exits{exitFailed: "a file exists already, or cannot be written", exitUsage: "wrong command line, name or directory",
		exitPermission: "not allowed to write there"}),
	"pitboss doctor": local(exits{exitOK: "no check fails; there may be warnings", exitFailed: "a check fails",
		exitInternal: "the working directory is gone"}),
	"pitboss verify": local(exits{exitOK: "every row that can run here has passed", exitFailed: "a row has failed, or the output cannot be written",
		exitUsage: "wrong command line, or no such scenario or interpreter", exitInternal: "a fault of pitboss", exitConfig: "there is no watchdog", exitInterrupted: "interrupted"}),
	"pitboss bench": local(exits{exitFailed: "the adapter or the output cannot be written", exitUnavailable: "no agent can be started, or it died",
		exitInternal: "a fault of pitboss", exitTemporary: "a call timed out", exitInterrupted: "interrupted"}),
	"pitboss version": local(exits{exitFailed: "the output or the Python package cannot be written",
		exitPermission: "the directory of the Python package belongs to somebody else"}),
	"pitboss completion": local(nil),
	"pitboss help":       local(exits{exitUsage: "no such command"}),
}

// exitsOf are the codes of a command in their order.
func exitsOf(c *cobra.Command) (codes []int, text exits) {
	text = commandExits[c.CommandPath()]
	return slices.Sorted(maps.Keys(text)), text
}
