// Package client calls tools of a running agent over its unix socket.
//
//	c, err := client.Dial(ctx, client.DefaultSocket(os.Getenv))
//	sum, err := client.Call[int](ctx, c, "add", map[string]any{"a": 1, "b": 2})
//
// A []byte anywhere in the arguments travels as a binary part and arrives as bytes. Failures are *Error values with the
// agent's reason.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// maxMessage is the largest message that a client takes, in bytes; the pool's limits.payload is the real limit.
	maxMessage = 4<<30 - 1
	// maxHeaders is the largest set of trailers, in bytes: errors carry tracebacks.
	maxHeaders = 64 << 10
	// slack is how much later than the call's own budget the transport gives up, so that the agent's answer is heard.
	slack = 3 * time.Second
)

// Client is a connection to one agent. It is safe for concurrent use.
type Client struct {
	conn   *grpc.ClientConn
	pool   pb.PoolClient
	admin  pb.AdminClient
	health healthpb.HealthClient
}

// Dial checks that the socket is there and returns a client of it. The connection is made anew when it breaks. Whom the file system
// keeps out gets an *Error of reason PERMISSION_DENIED with an *AccessError in it, here or from the first call.
func Dial(_ context.Context, path string) (*Client, error) {
	if _, err := os.Stat(path); err != nil {
		if refusal := keptOut(path, err); refusal != nil {
			return nil, refusal.asError()
		}
		return nil, &Error{Reason: Unreachable, Code: codes.Unavailable, Message: fmt.Sprintf("cannot reach the agent: %v", err), cause: err}
	}
	return New(path)
}

// New returns a client of an agent that may not be there yet: calls fail as UNREACHABLE until it is; WaitReady waits for it.
func New(path string) (*Client, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the agent: %w", err)
	}
	d := &dialer{path: abs}
	conn, err := grpc.NewClient("unix://"+abs, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(d.dial),
		grpc.WithUnaryInterceptor(d.unary), grpc.WithStreamInterceptor(d.stream),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithMaxHeaderListSize(maxHeaders), grpc.WithStatsHandler(sentHandler{}),
		// A socket on this host costs nothing to try: an agent that is back is found at once.
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 5 * time.Second,
			Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond}}))
	if err != nil {
		return nil, fmt.Errorf("cannot reach the agent at %q: %w", path, err)
	}
	return &Client{conn: conn, pool: pb.NewPoolClient(conn), admin: pb.NewAdminClient(conn), health: healthpb.NewHealthClient(conn)}, nil
}

// Close ends the connection; calls in flight fail, and their workers are replaced.
func (c *Client) Close() error { return c.conn.Close() }

// Value is JSON text with its binary parts.
type Value struct {
	JSON  []byte
	Parts [][]byte
}

// Result is the end of a call.
type Result struct {
	Value
	Call   uint64 // id, as in the agent's log
	Worker string
}

// Request is a call in its raw form. Pool may be empty, Timeout 0 means the pool's.
type Request struct {
	Pool, Tool string
	Args       Value
	Timeout    time.Duration
}

func (r *Request) message() *pb.CallRequest {
	m := &pb.CallRequest{Pool: r.Pool, Tool: r.Tool, Json: string(r.Args.JSON), Parts: r.Args.Parts}
	if r.Timeout > 0 {
		m.Timeout = durationpb.New(r.Timeout)
	}
	return m
}

// budget makes ctx's deadline the call's own, and gives the transport some more.
func (r *Request) budget(ctx context.Context) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline); r.Timeout <= 0 || left < r.Timeout {
			r.Timeout = max(left, time.Millisecond)
		}
	}
	if r.Timeout <= 0 {
		return context.WithCancel(ctx)
	}
	// The parent's own deadline must not cut the slack, but its cancellation must still be heard.
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.Timeout+slack)
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			cancel()
		}
	})
	return late, func() { stop(); cancel() }
}

// CallRaw runs a unary tool. The error is an *Error if the agent answered.
func (c *Client) CallRaw(ctx context.Context, r Request) (Result, error) {
	ctx, cancel := r.budget(ctx)
	defer cancel()
	ctx, sent := markSent(ctx)
	out, err := c.pool.Call(ctx, r.message())
	if err != nil {
		return Result{}, unsent(errorOf(err), sent)
	}
	return Result{Value{[]byte(out.GetJson()), out.GetParts()}, out.GetCallId(), out.GetWorker()}, nil
}

// StreamRaw runs a stream tool and hands each item to item, in order; an error of item ends the call.
func (c *Client) StreamRaw(ctx context.Context, r Request, item func(Value) error) (Result, error) {
	ctx, cancel := r.budget(ctx)
	defer cancel()
	ctx, sent := markSent(ctx)
	stream, err := c.pool.CallStream(ctx, &pb.CallStreamRequest{Call: r.message()})
	if err != nil {
		return Result{}, unsent(errorOf(err), sent)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return Result{}, &Error{Reason: Internal, Code: codes.Internal, MayHaveRun: true, Message: "the stream ended without a result"}
		}
		if err != nil {
			return Result{}, unsent(errorOf(err), sent)
		}
		v := Value{[]byte(m.GetJson()), m.GetParts()}
		if m.GetResult() {
			return Result{v, m.GetCallId(), m.GetWorker()}, nil
		}
		if err := item(v); err != nil {
			return Result{}, err
		}
	}
}

// Call runs a unary tool with the fields of in as its arguments (a struct or a map; nil for none) and decodes its result.
func Call[Out any](ctx context.Context, c *Client, tool string, in any) (Out, error) {
	var out Out
	args, err := Encode(in)
	if err != nil {
		return out, fmt.Errorf("cannot encode the arguments of %q: %w", tool, err)
	}
	result, err := c.CallRaw(ctx, Request{Tool: tool, Args: args})
	if err != nil {
		return out, err
	}
	if err := Decode(result.Value, &out); err != nil {
		return out, fmt.Errorf("cannot decode the result of %q: %w", tool, err)
	}
	return out, nil
}

// Tool is one callable of the agent.
type Tool struct {
	Pool   string          `json:"pool"`
	Name   string          `json:"name"`
	Doc    string          `json:"doc"`
	Stream bool            `json:"stream"`
	Params []Param         `json:"params"`
	Schema json.RawMessage `json:"schema"`
}

// Param is one parameter of a tool.
type Param struct {
	Name     string          `json:"name"`
	Required bool            `json:"required"`
	Type     string          `json:"type"`
	Default  json.RawMessage `json:"default,omitempty"`
}

// Tools lists the tools of one pool, or of all for an empty name.
func (c *Client) Tools(ctx context.Context, pool string) ([]Tool, error) {
	out, err := c.pool.ListTools(ctx, &pb.ListToolsRequest{Pool: pool})
	if err != nil {
		return nil, errorOf(err)
	}
	tools := []Tool{} // what is printed as JSON is a list even when it is empty
	for _, t := range out.GetTools() {
		row := Tool{Pool: t.GetPool(), Name: t.GetName(), Doc: t.GetDoc(), Stream: t.GetStream(), Params: []Param{}, Schema: json.RawMessage(t.GetSchemaJson())}
		for _, p := range t.GetParams() {
			row.Params = append(row.Params, Param{p.GetName(), p.GetRequired(), p.GetType(), json.RawMessage(p.GetDefaultJson())})
		}
		tools = append(tools, row)
	}
	return tools, nil
}

// Status is the agent's status document as JSON; its "schema" field is its version.
func (c *Client) Status(ctx context.Context) (json.RawMessage, error) {
	out, err := c.admin.Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return nil, errorOf(err)
	}
	return json.RawMessage(out.GetJson()), nil
}

// Pong is a worker's sign of life.
type Pong struct {
	Worker  string        `json:"worker"`
	PID     int64         `json:"pid"`
	RTT     time.Duration `json:"rtt_ns"`
	Calls   []uint64      `json:"calls"`
	Verdict string        `json:"verdict"`
}

// Ping asks one worker for a sign of life.
func (c *Client) Ping(ctx context.Context, worker string) (Pong, error) {
	out, err := c.admin.Ping(ctx, &pb.PingRequest{Worker: worker})
	if err != nil {
		return Pong{}, errorOf(err)
	}
	return Pong{out.GetWorker(), out.GetPid(), out.GetRtt().AsDuration(), append([]uint64{}, out.GetCalls()...), out.GetVerdict()}, nil
}

// Stop drains the agent and ends it; it returns when the order was taken.
func (c *Client) Stop(ctx context.Context, why string) error {
	_, err := c.admin.Stop(ctx, &pb.StopRequest{Reason: why})
	return errorOf(err)
}
