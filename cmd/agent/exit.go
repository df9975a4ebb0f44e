package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/client"
)

// The exit codes; where they can they follow sysexits.h(3).
const (
	exitOK          = 0
	exitFailed      = 1   // the tool raised, or a check failed
	exitUsage       = 64  // the command line is wrong
	exitArguments   = 65  // the tool's arguments are wrong
	exitUnavailable = 69  // no agent, pool failed, worker died
	exitInternal    = 70  // a fault of pitboss
	exitTemporary   = 75  // queue full, draining, timed out, or another agent holds the lock
	exitPermission  = 77  // not allowed
	exitConfig      = 78  // the configuration is wrong
	exitInterrupted = 130 // SIGINT
)

// reasonExit gives each reason of a failed call its exit code.
var reasonExit = map[string]int{
	string(agent.BadArguments):     exitArguments,
	string(agent.UnknownTool):      exitUsage,
	string(agent.UnknownPool):      exitUsage,
	string(agent.UnknownWorker):    exitUsage,
	string(agent.UnknownCall):      exitUsage,
	string(agent.ToolRaised):       exitFailed,
	string(agent.QueueFull):        exitTemporary,
	string(agent.PayloadTooLarge):  exitArguments,
	string(agent.QueueTimeout):     exitTemporary,
	string(agent.CallTimeout):      exitTemporary,
	string(agent.CallCancelled):    exitInterrupted,
	string(agent.CancelledByAdmin): exitInterrupted,
	string(agent.WorkerDied):       exitUnavailable,
	string(agent.PoolFailed):       exitUnavailable,
	string(agent.Draining):         exitTemporary,
	string(agent.PermissionDenied): exitPermission,
	string(agent.Internal):         exitInternal,
}

// codeError is an error with its exit code; next says what to do.
type codeError struct {
	code int
	err  error
	next string
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

// hintedError is an error of the agent whose next step depends on the command, not on its reason alone.
type hintedError struct {
	error
	next string
}

func (e *hintedError) Unwrap() error { return e.error }

func fail(code int, next, format string, args ...any) error {
	return &codeError{code, fmt.Errorf(format, args...), next}
}

// report prints an error for a human and returns the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	var coded *codeError
	var remote *client.Error
	var local *agent.Error
	switch {
	case errors.As(err, &coded):
		if coded.err != nil {
			fmt.Fprintf(w, "pitboss: %v\n", coded.err)
		}
		if coded.next != "" {
			fmt.Fprintf(w, "  %s\n", coded.next)
		}
		return coded.code
	case errors.As(err, &local):
		next := nextStep[string(local.Reason)]
		if local.Reason == agent.PoolFailed { // a private agent's pool: nobody waits for its next try
			next = "mend the adapter and run it again"
		}
		return reportReason(w, string(local.Reason), local.Message, local.Traceback, next)
	case errors.As(err, &remote):
		next := nextStep[string(remote.Reason)]
		if own := ownWords(remote.ToolReason, remote.Data); own != "" {
			next = own
			if retry, after := client.Retryable(remote); retry {
				next += fmt.Sprintf("; the same call may succeed after %s", after)
			}
		}
		var hinted *hintedError
		if errors.As(err, &hinted) {
			next = hinted.next
		}
		traceback := remote.Traceback
		if remote.Type == "pitboss.ToolError" { // raised on purpose, with its own words
			traceback = ""
		}
		return reportReason(w, string(remote.Reason), remote.Message, traceback, next)
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	fmt.Fprintf(w, "pitboss: %v\n", err)
	return exitInternal
}

func reportReason(w io.Writer, reason, message, traceback, next string) int {
	if traceback != "" {
		fmt.Fprintln(w, strings.TrimRight(traceback, "\n"))
	}
	fmt.Fprintf(w, "pitboss: %s: %s\n", reason, message)
	if next != "" {
		fmt.Fprintf(w, "  %s\n", next)
	}
	if code, ok := reasonExit[reason]; ok {
		return code
	}
	return exitInternal
}

// ownWords is what a tool said of its failure for programs; empty when nothing.
func ownWords(reason string, data []byte) string {
	var words []string
	if reason != "" {
		words = append(words, "the tool's reason is "+reason)
	}
	if len(data) > 0 {
		words = append(words, fmt.Sprintf("its data %s", data))
	}
	return strings.Join(words, ", ")
}

// nextStep is what a user can do about a reason.
var nextStep = map[string]string{
	string(agent.BadArguments): "`pitboss tools --schema` shows what the tool takes",
	string(agent.UnknownTool):  "`pitboss tools` lists what there is",
	string(agent.UnknownCall):  "`pitboss calls` lists those that wait or run",
	string(agent.WorkerDied):   "the pool replaces the worker; `pitboss events --prefix worker.exited` tells of its end",
	string(agent.PoolFailed):   "mend the adapter, then `pitboss restart --pool POOL`; without it the pool tries again every 30 s",
	string(agent.CallTimeout):  "give more time with --timeout, or raise timeouts.call of the pool",
	string(agent.QueueTimeout): "retry, or raise workers or queue.timeout of the pool",
	string(agent.QueueFull):    "retry later, or raise queue.max or workers of the pool",
	string(agent.Draining):     "retry when calls are taken again",
}
