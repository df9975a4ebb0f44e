package agent

import (
	"context"
	"encoding/json"

	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

// callDesk is what the API needs of the agent to look at calls and to end them.
type callDesk interface {
	Calls(pool string) ([]CallInfo, error)
	CancelCall(call uint64) (endedBy string, err error)
	Explain(call uint64) (Outcome, error)
	Stack(ctx context.Context, worker string) (string, error)
}

func (s *adminService) ListCalls(_ context.Context, in *pb.ListCallsRequest) (*pb.ListCallsResponse, error) {
	calls, err := s.core.Calls(in.GetPool())
	if err != nil {
		return nil, statusOf(err)
	}
	out := &pb.ListCallsResponse{}
	for _, c := range calls {
		out.Calls = append(out.Calls, &pb.CallInfo{CallId: c.Call, Pool: c.Pool, Tool: c.Tool, State: c.State, Worker: c.Worker,
			Age: durationpb.New(c.Age), Left: durationpb.New(c.Left)})
	}
	return out, nil
}

func (s *adminService) CancelCall(_ context.Context, in *pb.CancelCallRequest) (*pb.CancelCallResponse, error) {
	endedBy, err := s.core.CancelCall(in.GetCallId())
	if err != nil {
		return nil, statusOf(err)
	}
	return &pb.CancelCallResponse{EndedBy: endedBy}, nil
}

func (s *adminService) Explain(_ context.Context, in *pb.ExplainRequest) (*pb.ExplainResponse, error) {
	outcome, err := s.core.Explain(in.GetCallId())
	if err != nil {
		return nil, statusOf(err)
	}
	text, err := json.Marshal(outcome)
	if err != nil {
		return nil, statusOf(failf(Internal, "cannot encode the outcome: %v", err))
	}
	return &pb.ExplainResponse{Json: string(text)}, nil
}

func (s *adminService) Stack(ctx context.Context, in *pb.StackRequest) (*pb.StackResponse, error) {
	text, err := s.core.Stack(ctx, in.GetWorker())
	if err != nil {
		return nil, statusOf(err)
	}
	return &pb.StackResponse{Text: text}, nil
}
