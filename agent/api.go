package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"time"

	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// messageSlack is what a message may be larger than its payload: names, ids, framing.
	messageSlack = 64 << 10
	// apiPatience is how long the API waits for its last answers at a stop.
	apiPatience = 2 * time.Second
	// maxTimeout bounds what a client may ask for.
	maxTimeout = 24 * time.Hour
)

// caller and admin are what the API needs of the agent.
type (
	caller interface {
		Call(ctx context.Context, req *Request) (*Result, error)
		Stream(ctx context.Context, req *Request, chunk func(*Value) error) (*Result, error)
		Tools(ctx context.Context, pool string) ([]Tool, error)
	}
	admin interface {
		Status() Status
		Ping(ctx context.Context, worker string) (Pong, error)
		Stop(why string)
	}
	operator interface {
		Restart(ctx context.Context, worker, pool string) ([]string, error)
		Drain(ctx context.Context, pool string) error
		Resume(pool string) error
		Scale(pool string, workers int) error
		Reload(ctx context.Context) ([]string, error)
	}
	recorder interface {
		emit(kind *eventKind, fields ...slog.Attr)
	}
	core interface {
		recorder
		caller
		admin
		operator
		callDesk
		watcher
	}
)

// apiServer is the gRPC server on the agent's socket. It decodes, calls the core and encodes; it decides nothing.
type apiServer struct {
	grpc   *grpc.Server
	health *healthService
}

// newServer builds the server; only listeners that read their peers' credentials fit it.
func newServer(c core, who *access, memory *apiMemory, limits ...grpc.ServerOption) *apiServer {
	record := newAudit(func(kind *eventKind, fields ...slog.Attr) { c.emit(kind, fields...) })
	tap := func(ctx context.Context, info *tap.Info) (context.Context, error) {
		ctx, err := who.tap(ctx, info)
		if err != nil {
			record.refused(ctx, info.FullMethodName, time.Now())
		}
		return ctx, err
	}
	s := &apiServer{
		grpc: grpc.NewServer(append(limits, grpc.Creds(peerHandshake{}), grpc.ForceServerCodecV2(newPartsCodec()), grpc.InTapHandle(tap),
			grpc.ChainUnaryInterceptor(record.unary, smallOrders))...),
		health: newHealthService(),
	}
	pb.RegisterPoolServer(s.grpc, &poolService{core: c, memory: memory})
	pb.RegisterAdminServer(s.grpc, &adminService{core: c})
	healthpb.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	return s
}

// Serve answers on l until Stop.
func (s *apiServer) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// Stop takes no new calls, waits up to apiPatience for the last answers, and closes every connection.
func (s *apiServer) Stop() {
	s.health.stop()
	ended := make(chan struct{})
	go func() { s.grpc.GracefulStop(); close(ended) }()
	timer := time.NewTimer(apiPatience)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		s.grpc.Stop()
		<-ended
	}
}

type poolService struct {
	pb.UnimplementedPoolServer
	core   core
	memory *apiMemory
}

func (s *poolService) Call(ctx context.Context, in *pb.CallRequest) (*pb.CallResponse, error) {
	req, err := requestOf(in)
	if err != nil {
		return nil, statusOf(err)
	}
	load := loadOf(ctx)
	release, e := s.memory.hold(load, int64(req.Args.size()))
	if e != nil {
		return nil, statusOf(e)
	}
	defer release()
	result, err := s.core.Call(ctx, req)
	if err != nil {
		return nil, statusOf(err)
	}
	s.memory.answer(load, &result.Value)
	return &pb.CallResponse{Json: string(result.JSON), Parts: result.Parts, CallId: result.Call, Worker: result.Worker}, nil
}

func (s *poolService) CallStream(in *pb.CallStreamRequest, out grpc.ServerStreamingServer[pb.CallStreamResponse]) error {
	req, err := requestOf(in.GetCall())
	if err != nil {
		return statusOf(err)
	}
	load := loadOf(out.Context())
	release, e := s.memory.hold(load, int64(req.Args.size()))
	if e != nil {
		return statusOf(e)
	}
	defer release()
	result, err := s.core.Stream(out.Context(), req, func(v *Value) error {
		s.memory.answer(load, v)
		return out.Send(&pb.CallStreamResponse{Json: string(v.JSON), Parts: v.Parts})
	})
	if err != nil {
		return statusOf(err)
	}
	return out.Send(&pb.CallStreamResponse{Json: string(result.JSON), Parts: result.Parts, Result: true, CallId: result.Call, Worker: result.Worker})
}

func (s *poolService) ListTools(ctx context.Context, in *pb.ListToolsRequest) (*pb.ListToolsResponse, error) {
	tools, err := s.core.Tools(ctx, in.GetPool())
	if err != nil {
		return nil, statusOf(err)
	}
	out := &pb.ListToolsResponse{}
	for _, t := range tools {
		row := &pb.Tool{Pool: t.Pool, Name: t.Name, Doc: t.Doc, Stream: t.Stream, SchemaJson: string(t.Schema)}
		for _, p := range t.Params {
			row.Params = append(row.Params, &pb.ToolParam{Name: p.Name, Required: p.Required, Type: p.Type, DefaultJson: string(p.Default)})
		}
		out.Tools = append(out.Tools, row)
	}
	return out, nil
}

// requestOf checks what the core relies on: the arguments are one JSON object, so that they can be put into a frame
// unread, and the timeout is a sane duration.
func requestOf(in *pb.CallRequest) (*Request, error) {
	req := &Request{Pool: in.GetPool(), Tool: in.GetTool(), Args: Value{JSON: []byte(in.GetJson()), Parts: in.GetParts()}}
	if req.Tool == "" {
		return nil, failf(BadArguments, "the request names no tool")
	}
	if len(req.Tool) > maxName || len(req.Pool) > maxName {
		return nil, failf(BadArguments, "the request's names of pool and tool have %d and %d bytes, %d are possible", len(req.Pool), len(req.Tool), maxName)
	}
	if err := checkObject(req.Args.JSON); err != nil {
		return nil, &Error{Reason: BadArguments, Tool: req.Tool, Message: err.Error()}
	}
	if t := in.GetTimeout(); t != nil {
		if t.CheckValid() != nil || t.AsDuration() <= 0 || t.AsDuration() > maxTimeout {
			return nil, &Error{Reason: BadArguments, Tool: req.Tool, Message: fmt.Sprintf("timeout %v is out of range; it must be above 0 and at most %s", t, maxTimeout)}
		}
		req.Timeout = t.AsDuration()
	}
	return req, nil
}

// checkObject says where the text is no JSON object; empty text is {}.
func checkObject(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	if !json.Valid(text) {
		var v any
		err := json.Unmarshal(text, &v)
		if syntax, ok := err.(*json.SyntaxError); ok {
			return fmt.Errorf("the arguments are not JSON: %v at byte %d", err, syntax.Offset)
		}
		return fmt.Errorf("the arguments are not JSON: %v", err)
	}
	for _, b := range text {
		switch b {
		case ' ', '\t', '\r', '\n':
			continue
		case '{':
			return nil
		}
		break
	}
	return fmt.Errorf("the arguments must be a JSON object, as %q", `{"name": value}`)
}

type adminService struct {
	pb.UnimplementedAdminServer
	core core
}

func (s *adminService) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	text, err := json.Marshal(s.core.Status())
	if err != nil {
		return nil, statusOf(failf(Internal, "cannot encode the status: %v", err))
	}
	return &pb.StatusResponse{Json: string(text)}, nil
}

func (s *adminService) Ping(ctx context.Context, in *pb.PingRequest) (*pb.PingResponse, error) {
	pong, err := s.core.Ping(ctx, in.GetWorker())
	if err != nil {
		return nil, statusOf(err)
	}
	return &pb.PingResponse{Worker: pong.Worker, Pid: int64(pong.PID), Rtt: durationpb.New(pong.RTT), Calls: pong.Calls, Verdict: pong.Verdict}, nil
}

func (s *adminService) Stop(_ context.Context, in *pb.StopRequest) (*pb.StopResponse, error) {
	s.core.Stop(orElse(in.GetReason(), "ordered over the API"))
	return &pb.StopResponse{}, nil
}
