package client

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reason says why the agent failed a call.
type Reason string

// The reasons that an agent gives.
const (
	BadArguments     Reason = "BAD_ARGUMENTS"
	UnknownTool      Reason = "UNKNOWN_TOOL"
	UnknownPool      Reason = "UNKNOWN_POOL"
	UnknownWorker    Reason = "UNKNOWN_WORKER"
	UnknownCall      Reason = "UNKNOWN_CALL"
	ToolRaised       Reason = "TOOL_RAISED"
	QueueFull        Reason = "QUEUE_FULL"
	PayloadTooLarge  Reason = "PAYLOAD_TOO_LARGE"
	QueueTimeout     Reason = "QUEUE_TIMEOUT"
	CallTimeout      Reason = "CALL_TIMEOUT"
	CallCancelled    Reason = "CLIENT"
	CancelledByAdmin Reason = "ADMIN"
	WorkerDied       Reason = "WORKER_DIED"
	PoolFailed       Reason = "POOL_FAILED"
	Draining         Reason = "DRAINING"
	PermissionDenied Reason = "PERMISSION_DENIED"
	Internal         Reason = "INTERNAL"
	// Unreachable is this package's own: the agent did not answer, or the connection broke.
	Unreachable Reason = "UNREACHABLE"
)

// Error is the failure of one call; callers branch on Reason.
type Error struct {
	Reason    Reason
	Code      codes.Code
	Message   string
	Traceback string // of the Python exception, or the last stack of a worker that died
	// Pool, Worker, Tool, Call and Type are empty or 0 where they do not apply.
	Pool, Worker, Tool, Type string
	Call                     uint64
	MayHaveRun               bool            // user code may have had effects
	ToolReason               string          // of TOOL_RAISED: the tool's own name for it, by ToolError(reason=…)
	Data                     json.RawMessage // of TOOL_RAISED: what the tool attached, by ToolError(data=…)
	PostMortem               json.RawMessage // of a worker that died
	RetryAfter               time.Duration   // 0: no hint
	cause                    error           // of this side, for errors.Is; nil when the agent answered
}

func (e *Error) Error() string { return e.Message }

// Unwrap is what failed on this side: context.Canceled, context.DeadlineExceeded, or the system's error.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is(err, client.QueueFull) true for an error of that reason.
func (e *Error) Is(target error) bool {
	reason, ok := target.(Reason)
	return ok && reason == e.Reason
}

// Error makes a Reason a target of errors.Is.
func (r Reason) Error() string { return string(r) }

// unsent marks an error of a call of which nothing has left this process: it cannot have run.
func unsent(err error, sent *atomic.Bool) error {
	var e *Error
	if errors.As(err, &e) && !sent.Load() {
		e.MayHaveRun = false
	}
	return err
}

// errorOf turns a gRPC error into an *Error; nil stays nil.
func errorOf(err error) error {
	if err == nil {
		return nil
	}
	var own *Error // made on this side already
	if errors.As(err, &own) {
		return own
	}
	s := status.Convert(err)
	e := &Error{Code: s.Code(), Message: s.Message(), Reason: Unreachable, MayHaveRun: true}
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == "pitboss" {
				e.take(d)
			}
		case *errdetails.DebugInfo:
			e.Traceback = d.GetDetail()
		case *errdetails.RetryInfo:
			e.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	if e.Reason == Unreachable {
		switch s.Code() {
		case codes.ResourceExhausted:
			e.Reason, e.MayHaveRun = PayloadTooLarge, false // the transport's own limit
		case codes.Canceled:
			e.Reason, e.cause = CallCancelled, context.Canceled
		case codes.DeadlineExceeded:
			e.Reason, e.cause = CallTimeout, context.DeadlineExceeded
		case codes.PermissionDenied:
			e.Reason, e.MayHaveRun = PermissionDenied, false
		}
	}
	return e
}

func (e *Error) take(info *errdetails.ErrorInfo) {
	m := info.GetMetadata()
	e.Reason = Reason(info.GetReason())
	e.Pool, e.Worker, e.Tool, e.Type = m["pool"], m["worker"], m["tool"], m["type"]
	e.ToolReason = m["tool_reason"]
	e.Call, _ = strconv.ParseUint(m["call"], 10, 64)
	e.MayHaveRun = m["may_have_run"] == "true"
	if text := m["data"]; text != "" {
		e.Data = json.RawMessage(text)
	}
	if text := m["post_mortem"]; text != "" {
		e.PostMortem = json.RawMessage(text)
	}
}
