package client

import (
	"errors"
	"time"
)

// retryRule says when the same call may be sent again.
type retryRule int

const (
	retryNever  retryRule = iota // it would fail the same way, or the caller did not want it
	retryUnrun                   // if user code has not run, or running it twice does no harm
	retryAlways                  // it never ran
	retryHinted                  // if the tool says so
)

// retries is the one table of what may be sent again, and after which pause where the agent names none.
var retries = map[Reason]struct {
	rule  retryRule
	pause time.Duration
}{
	BadArguments:     {retryNever, 0},
	UnknownTool:      {retryNever, 0},
	UnknownPool:      {retryNever, 0},
	UnknownWorker:    {retryNever, 0},
	UnknownCall:      {retryNever, 0},
	ToolRaised:       {retryHinted, time.Second},
	QueueFull:        {retryAlways, 100 * time.Millisecond},
	PayloadTooLarge:  {retryNever, 0},
	QueueTimeout:     {retryAlways, 100 * time.Millisecond},
	CallTimeout:      {retryUnrun, 100 * time.Millisecond},
	CallCancelled:    {retryNever, 0},
	CancelledByAdmin: {retryNever, 0},
	WorkerDied:       {retryUnrun, 100 * time.Millisecond},
	PoolFailed:       {retryAlways, 5 * time.Second},
	Draining:         {retryAlways, time.Second},
	PermissionDenied: {retryNever, 0},
	Internal:         {retryNever, 0},
	Unreachable:      {retryUnrun, 100 * time.Millisecond},
}

// Retryable says whether the call that failed with err may be sent again without any risk of a second effect, and after which
// pause (the agent's own hint, if it gave one). It is false for nil, and for errors that are not this package's.
func Retryable(err error) (retry bool, after time.Duration) { return retryable(err, false) }

// RetryableIfIdempotent is Retryable for a tool that does no harm when it runs twice: then a call may be sent again too whose
// worker died, whose time was over, or whose agent went away in the middle of it.
func RetryableIfIdempotent(err error) (retry bool, after time.Duration) { return retryable(err, true) }

func retryable(err error, idempotent bool) (bool, time.Duration) {
	var e *Error
	if !errors.As(err, &e) {
		return false, 0
	}
	row := retries[e.Reason]
	switch row.rule {
	case retryNever:
		return false, 0
	case retryUnrun:
		if e.MayHaveRun && !idempotent {
			return false, 0
		}
	case retryHinted:
		if e.RetryAfter <= 0 {
			return false, 0
		}
	}
	if e.RetryAfter > 0 {
		return true, e.RetryAfter
	}
	return true, row.pause
}
