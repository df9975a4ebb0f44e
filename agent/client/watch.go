package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
)

// Event is one thing that happened in the agent.
type Event struct {
	Seq    uint64          `json:"seq"` // grows by one with each event of any name
	Time   time.Time       `json:"time"`
	Name   string          `json:"name"` // as docs/events.md lists them
	Fields json.RawMessage `json:"fields"`
	Lost   uint64          `json:"lost,omitempty"` // not 0: no event, but so many of any name that this stream was too slow for; the rest is empty
}

// Line is one line that a worker or a launcher wrote.
type Line struct {
	Time   time.Time `json:"time"`
	Pool   string    `json:"pool"`
	Worker string    `json:"worker"` // id, or "launcher"
	Stream string    `json:"stream"` // stdout, stderr
	Call   uint64    `json:"call"`   // that ran then; 0 for none
	Text   string    `json:"line"`
	Lost   uint64    `json:"lost,omitempty"` // not 0: no line, but so many of any pool that this stream was too slow for; the rest is empty
}

// Events hands the last events whose name begins with prefix to take, oldest first; with follow also those that come, until
// the agent ends (then it returns nil), ctx does or take fails.
func (c *Client) Events(ctx context.Context, prefix string, follow bool, take func(Event) error) error {
	stream, err := c.admin.WatchEvents(ctx, &pb.WatchEventsRequest{Follow: follow, Prefix: prefix})
	if err != nil {
		return errorOf(err)
	}
	return each(stream.Recv, func(m *pb.WatchEventsResponse) error {
		return take(Event{m.GetSeq(), m.GetTime().AsTime(), m.GetName(), json.RawMessage(m.GetFieldsJson()), m.GetLost()})
	})
}

// Logs does the same with the last lines of one pool or worker; both empty means all.
func (c *Client) Logs(ctx context.Context, pool, worker string, follow bool, take func(Line) error) error {
	stream, err := c.admin.WatchLogs(ctx, &pb.WatchLogsRequest{Pool: pool, Worker: worker, Follow: follow})
	if err != nil {
		return errorOf(err)
	}
	return each(stream.Recv, func(m *pb.WatchLogsResponse) error {
		return take(Line{m.GetTime().AsTime(), m.GetPool(), m.GetWorker(), m.GetStream(), m.GetCallId(), m.GetLine(), m.GetLost()})
	})
}

func each[M any](receive func() (M, error), take func(M) error) error {
	for {
		m, err := receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errorOf(err)
		}
		if err := take(m); err != nil {
			return err
		}
	}
}
