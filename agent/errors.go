package agent

import (
	"fmt"
	"time"
)

// Reason says why a call or an order failed. One reason has one gRPC code and one exit code (see the tables in api_errors.go).
type Reason string

// The reasons, as they appear in google.rpc.ErrorInfo.
const (
	BadArguments     Reason = "BAD_ARGUMENTS"     // the arguments do not fit the tool's signature, or are no JSON object
	UnknownTool      Reason = "UNKNOWN_TOOL"      // no pool has a tool of that name
	UnknownPool      Reason = "UNKNOWN_POOL"      // no pool of that name
	UnknownWorker    Reason = "UNKNOWN_WORKER"    // no worker of that id
	UnknownCall      Reason = "UNKNOWN_CALL"      // no call of that id waits, runs or is remembered
	ToolRaised       Reason = "TOOL_RAISED"       // user code raised; the traceback is in the error
	QueueFull        Reason = "QUEUE_FULL"        // the pool's queue holds queue.max calls
	PayloadTooLarge  Reason = "PAYLOAD_TOO_LARGE" // arguments or result over limits.payload
	QueueTimeout     Reason = "QUEUE_TIMEOUT"     // the call waited too long; it never ran
	CallTimeout      Reason = "CALL_TIMEOUT"      // the call's deadline passed while it ran; its worker was replaced
	CallCancelled    Reason = "CLIENT"            // the client went away or cancelled
	CancelledByAdmin Reason = "ADMIN"             // an administrator ended the call
	WorkerDied       Reason = "WORKER_DIED"       // the worker ended during the call; a post-mortem is in the error
	PoolFailed       Reason = "POOL_FAILED"       // nobody can start in this pool; the traceback says why
	Draining         Reason = "DRAINING"          // the agent takes no new calls
	PermissionDenied Reason = "PERMISSION_DENIED" // the caller's user has no role that may do this
	Internal         Reason = "INTERNAL"          // a fault of pitboss itself
)

// Error is the failure of one call or order. Callers branch on Reason by errors.As.
type Error struct {
	Reason  Reason
	Message string
	// Pool, Worker, Tool and Call name what it happened to; empty or 0 where it does not apply.
	Pool, Worker, Tool string
	Call               uint64
	// Type is the Python exception's type, Traceback its text (user frames), for TOOL_RAISED, BAD_ARGUMENTS and POOL_FAILED.
	Type, Traceback string
	// ToolReason is the tool's own name for its failure, Data the JSON that it attached, at most maxToolData bytes; of TOOL_RAISED
	// by ToolError only, else empty.
	ToolReason string
	Data       []byte
	// RetryAfter is a hint for RetryInfo; 0 when a retry makes no sense or no time can be named.
	RetryAfter time.Duration
	// MayHaveRun is true when user code may have had effects before the failure.
	MayHaveRun bool
	// PostMortem is set for WORKER_DIED, CALL_TIMEOUT and, of a call that ran, ADMIN.
	PostMortem *PostMortem
}

func (e *Error) Error() string { return e.Message }

func failf(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// PostMortem is what is known of a worker's death.
type PostMortem struct {
	// Code is the exit code, Signal the signal's name ("SIGSEGV"); one of the two is set, or neither when nobody saw it.
	Code   *int   `json:"code,omitempty"`
	Signal string `json:"signal,omitempty"`
	// Killer is empty when the worker ended by itself, else who ended it and why ("heartbeat: blocked for 10.2s", …).
	Killer string `json:"killer,omitempty"`
	// Evidence is what the kill was decided on, as the kernel's counters that showed no progress; empty for a plain order.
	Evidence string `json:"evidence,omitempty"`
	// Unkillable says which process outlives SIGKILL and where the kernel holds it; empty for an end that came.
	Unkillable string `json:"unkillable,omitempty"`
	// Call and Tool are what it ran; 0 and empty when it was idle.
	Call uint64 `json:"call,omitempty"`
	Tool string `json:"tool,omitempty"`
	// Stack is the last Python stack from the crash file, at most 64 KiB; Output the worker's last 50 output lines.
	Stack  string   `json:"stack,omitempty"`
	Output []string `json:"output,omitempty"`
	Uptime string   `json:"uptime"`
	Calls  uint64   `json:"calls"`
	// MaxRSSKB is the peak resident memory in KiB, 0 when not known.
	MaxRSSKB int64 `json:"max_rss_kb,omitempty"`
	// CleanUpMS is the time in milliseconds from the noticed death to the proof that nothing of its tree is left. It is known
	// only after the caller has its answer: `explain` and the log tell it.
	CleanUpMS float64 `json:"clean_up_ms,omitempty"`
}

// Cause is one line: how the process ended and who ended it.
func (p *PostMortem) Cause() string {
	end := "ended without a status that anybody saw"
	switch {
	case p.Unkillable != "":
		end = "outlives SIGKILL: " + p.Unkillable
	case p.Signal != "":
		end = "died by " + p.Signal
	case p.Code != nil:
		end = fmt.Sprintf("exited with code %d", *p.Code)
	}
	if p.Killer != "" {
		end += " (" + p.Killer + ")"
	}
	return end
}
