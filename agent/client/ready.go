package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// readyPause is how often WaitReady asks why a pool does not serve yet: health does not tell one that starts from one that has
// failed.
const readyPause = 200 * time.Millisecond

// Serving says whether the pool takes calls now; the empty name asks for all pools. The error is an *Error: UNKNOWN_POOL, or
// UNREACHABLE when no agent answers.
func (c *Client) Serving(ctx context.Context, pool string) (bool, error) {
	out, err := c.health.Check(ctx, &healthpb.HealthCheckRequest{Service: pool})
	if status.Code(err) == codes.NotFound {
		return false, &Error{Reason: UnknownPool, Code: codes.NotFound, Pool: pool, Message: fmt.Sprintf("no pool is named %q", pool)}
	}
	if err != nil {
		return false, errorOf(err)
	}
	return out.GetStatus() == healthpb.HealthCheckResponse_SERVING, nil
}

// WaitReady returns when the pool takes calls, or every pool for the empty name. It waits for an agent that is not there yet, or
// that is being restarted. A pool that has failed is its *Error (POOL_FAILED, with the traceback for a pool that is named), one
// that does not exist is UNKNOWN_POOL, and the end of ctx is a *NotReadyError.
func (c *Client) WaitReady(ctx context.Context, pool string) error {
	var last error = &Error{Reason: Unreachable, Code: codes.Unavailable, Message: "no agent answers"}
	for {
		serving, err := c.Serving(ctx, pool)
		if serving {
			return nil
		}
		if err == nil {
			last, err = c.whyNot(ctx, pool)
		}
		var e *Error
		if errors.As(err, &e) && e.Reason != Unreachable && e.Reason != CallTimeout && ctx.Err() == nil {
			return err
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		if err := c.changed(ctx, pool, serving || err == nil); err != nil {
			return &NotReadyError{Pool: pool, Last: last, Cause: err}
		}
	}
}

// NotReadyError says that the time for WaitReady was over first.
type NotReadyError struct {
	Pool  string // empty for all
	Last  error  // what was still waited for
	Cause error  // context.DeadlineExceeded or context.Canceled
}

func (e *NotReadyError) Error() string {
	what := "the pools"
	if e.Pool != "" {
		what = fmt.Sprintf("pool %q", e.Pool)
	}
	return fmt.Sprintf("cannot wait longer for %s: %v: %v", what, e.Cause, e.Last)
}

// Unwrap makes both errors visible to errors.Is and errors.As.
func (e *NotReadyError) Unwrap() []error { return []error{e.Cause, e.Last} }

// changed returns after a pause, or at once when the agent says that the pool serves; its error is that of ctx.
func (c *Client) changed(ctx context.Context, pool string, answered bool) error {
	pause, cancel := context.WithTimeout(ctx, readyPause)
	defer cancel()
	if answered {
		stream, err := c.health.Watch(pause, &healthpb.HealthCheckRequest{Service: pool}, grpc.WaitForReady(true))
		for err == nil {
			var m *healthpb.HealthCheckResponse
			if m, err = stream.Recv(); err == nil && m.GetStatus() == healthpb.HealthCheckResponse_SERVING {
				return ctx.Err()
			}
		}
	}
	<-pause.Done()
	return ctx.Err()
}

// whyNot reads from the status why a pool does not serve; err is set when waiting makes no sense.
func (c *Client) whyNot(ctx context.Context, pool string) (reason, err error) {
	text, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	var s struct {
		Pools []struct{ Name, State, Reason string }
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("cannot read the agent's status: %w", err)
	}
	reason = errors.New("the agent has no pool")
	for _, p := range s.Pools {
		if pool != "" && p.Name != pool {
			continue
		}
		if p.State == "failed" {
			return nil, c.failure(ctx, p.Name, p.Reason)
		}
		if p.State != "ready" && p.State != "degraded" {
			reason = fmt.Errorf("pool %q is %s", p.Name, p.State)
		}
	}
	return reason, nil
}

// failure is the whole error of a failed pool.
func (c *Client) failure(ctx context.Context, pool, reason string) error {
	var e *Error
	if _, err := c.Tools(ctx, pool); errors.As(err, &e) && e.Reason == PoolFailed {
		return e
	}
	return &Error{Reason: PoolFailed, Code: codes.Unavailable, Pool: pool, Message: reason}
}
