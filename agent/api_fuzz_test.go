package agent

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"time"
	"unicode/utf8"

	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// echoCore answers every call that reaches it with its own arguments, or with an error that repeats all of the request.
type echoCore struct {
	core
	t    *testing.T
	fail bool
}

func (c *echoCore) Call(_ context.Context, req *Request) (*Result, error) {
	text := req.Args.JSON
	var object map[string]json.RawMessage
	if len(text) > 0 && json.Unmarshal(text, &object) != nil {
		c.t.Errorf("arguments that are no object reach the core: %q", text)
	}
	if req.Tool == "" || len(req.Tool) > maxName || len(req.Pool) > maxName || req.Timeout < 0 || req.Timeout > maxTimeout {
		c.t.Errorf("%+v reaches the core", req)
	}
	if c.fail {
		return nil, &Error{Reason: ToolRaised, Message: req.Tool + string(text), Pool: req.Pool, Tool: req.Tool, Traceback: string(text), Data: text, RetryAfter: time.Second,
			PostMortem: &PostMortem{Output: []string{string(text)}}}
	}
	return &Result{Value: req.Args, Call: 1, Worker: "w"}, nil
}

// FuzzCallRequest: any bytes that decode to a CallRequest are either refused as BAD_ARGUMENTS or reach the core whole and sane;
// whatever comes back is a status with one ErrorInfo that can be sent, within what stock clients take in trailers.
func FuzzCallRequest(f *testing.F) {
	for _, seed := range []*pb.CallRequest{
		{Tool: "add", Json: `{"a":1,"b":2}`}, {Pool: "p", Tool: "t", Json: ` {"$part": 0} `, Parts: [][]byte{{1}}}, {Tool: "x", Json: "{}{}"}, {Tool: "x", Json: "[]"}, {Json: "{}"},
	} {
		text, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, false)
		f.Add(text, true)
	}
	f.Add([]byte{0x12, 1, 'x', 0x2a, 11, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, false) // a timeout out of range
	f.Fuzz(func(t *testing.T, b []byte, fail bool) {
		in := &pb.CallRequest{}
		if proto.Unmarshal(b, in) != nil {
			return // gRPC refuses it
		}
		s := &poolService{core: &echoCore{t: t, fail: fail}, memory: newAPIMemory(1<<30, slog.New(slog.DiscardHandler))}
		out, err := s.Call(t.Context(), in)
		if err == nil {
			if out.GetJson() != in.GetJson() || len(out.GetParts()) != len(in.GetParts()) {
				t.Errorf("%v came back as %v", in, out)
			}
			if _, err := proto.Marshal(out); err != nil {
				t.Error(err)
			}
			return
		}
		checkSendable(t, err, fail)
	})
}

// checkSendable: an error that gRPC can put on the wire as it is.
func checkSendable(t *testing.T, err error, fail bool) {
	t.Helper()
	s, ok := status.FromError(err)
	if !ok || (s.Code() != codes.InvalidArgument && !(fail && s.Code() == codes.Unknown)) {
		t.Fatalf("%v", err)
	}
	text, marshalErr := proto.Marshal(s.Proto())
	if marshalErr != nil {
		t.Errorf("a status that cannot be sent: %v", marshalErr)
	}
	if len(text) > 16<<10 {
		t.Errorf("a status of %d bytes", len(text))
	}
	infos := 0
	for _, detail := range s.Details() {
		if info, is := detail.(*errdetails.ErrorInfo); is && info.GetReason() != "" {
			infos++
		}
		if broken, is := detail.(error); is {
			t.Errorf("a detail that cannot be read: %v", errors.Unwrap(broken))
		}
	}
	if infos != 1 || !utf8.ValidString(s.Message()) {
		t.Errorf("%d reasons, message %q", infos, s.Message())
	}
}
