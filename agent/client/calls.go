package client

import (
	"context"
	"encoding/json"
	"time"

	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
)

// CallInfo is one call that has not ended.
type CallInfo struct {
	Call   uint64        `json:"call"`
	Pool   string        `json:"pool"`
	Tool   string        `json:"tool"`
	State  string        `json:"state"`  // queued or running
	Worker string        `json:"worker"` // empty while it waits
	Age    time.Duration `json:"age_ns"`
	Left   time.Duration `json:"left_ns"` // until its deadline
}

// Calls lists the calls that wait or run, oldest first, of one pool or of all for an empty name.
func (c *Client) Calls(ctx context.Context, pool string) ([]CallInfo, error) {
	out, err := c.admin.ListCalls(ctx, &pb.ListCallsRequest{Pool: pool})
	if err != nil {
		return nil, errorOf(err)
	}
	calls := []CallInfo{}
	for _, i := range out.GetCalls() {
		calls = append(calls, CallInfo{i.GetCallId(), i.GetPool(), i.GetTool(), i.GetState(), i.GetWorker(), i.GetAge().AsDuration(), i.GetLeft().AsDuration()})
	}
	return calls, nil
}

// Cancel ends one call. It returns "queue" for one that had not begun and never runs, "kill" for one whose worker is
// killed; an *Error with UnknownCall for one that has ended.
func (c *Client) Cancel(ctx context.Context, call uint64) (endedBy string, err error) {
	out, err := c.admin.CancelCall(ctx, &pb.CancelCallRequest{CallId: call})
	return out.GetEndedBy(), errorOf(err)
}

// Explain tells how a call ended, for the last 10 000, or that it waits or runs, as the JSON document of `explain --json`.
func (c *Client) Explain(ctx context.Context, call uint64) (json.RawMessage, error) {
	out, err := c.admin.Explain(ctx, &pb.ExplainRequest{CallId: call})
	if err != nil {
		return nil, errorOf(err)
	}
	return json.RawMessage(out.GetJson()), nil
}

// Stack returns the Python stack of the main thread of one worker, where calls run, as faulthandler prints it; its call goes on.
func (c *Client) Stack(ctx context.Context, worker string) (string, error) {
	out, err := c.admin.Stack(ctx, &pb.StackRequest{Worker: worker})
	return out.GetText(), errorOf(err)
}
