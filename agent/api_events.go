package agent

import (
	"context"

	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// watcher is what the API needs of the agent to stream what happens. A stream ends without an error when everything that
// was asked for is sent; with follow that is at the agent's end.
type watcher interface {
	WatchEvents(ctx context.Context, follow bool, prefix string, take func(Event) error) error
	WatchLogs(ctx context.Context, pool, worker string, follow bool, take func(Line) error) error
}

func (s *adminService) WatchEvents(in *pb.WatchEventsRequest, out grpc.ServerStreamingServer[pb.WatchEventsResponse]) error {
	err := s.core.WatchEvents(out.Context(), in.GetFollow(), in.GetPrefix(), func(e Event) error {
		if e.Lost > 0 {
			return out.Send(&pb.WatchEventsResponse{Lost: e.Lost})
		}
		fields, err := e.FieldsJSON()
		if err != nil {
			return failf(Internal, "%v", err)
		}
		return out.Send(&pb.WatchEventsResponse{Seq: e.Seq, Time: timestamppb.New(e.Time), Name: e.Name, FieldsJson: fields})
	})
	if err != nil {
		return statusOf(err)
	}
	return nil
}

func (s *adminService) WatchLogs(in *pb.WatchLogsRequest, out grpc.ServerStreamingServer[pb.WatchLogsResponse]) error {
	err := s.core.WatchLogs(out.Context(), in.GetPool(), in.GetWorker(), in.GetFollow(), func(l Line) error {
		if l.Lost > 0 {
			return out.Send(&pb.WatchLogsResponse{Lost: l.Lost})
		}
		return out.Send(&pb.WatchLogsResponse{Time: timestamppb.New(l.Time), Pool: l.Pool, Worker: l.Worker, Stream: l.Stream, CallId: l.Call, Line: l.Text})
	})
	if err != nil {
		return statusOf(err)
	}
	return nil
}
