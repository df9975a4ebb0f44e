package agent

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// healthService is grpc.health.v1 with one name per pool; the empty name is the agent: serving if all pools are. What
// gRPC's own server does not know it adds: names that go away again, and the end of the watches at a stop.
type healthService struct {
	*health.Server
	known map[string]bool // written by set alone
	ended context.Context
	end   context.CancelFunc
}

// newHealthService knows no pool yet, and serves nothing.
func newHealthService() *healthService {
	h := &healthService{Server: health.NewServer(), known: map[string]bool{}}
	h.ended, h.end = context.WithCancel(context.Background())
	h.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	return h
}

// Check is NOT_FOUND for a pool that there is not, or not any more.
func (h *healthService) Check(ctx context.Context, in *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	out, err := h.Server.Check(ctx, in)
	if err != nil || out.GetStatus() == healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
		return nil, status.Errorf(codes.NotFound, "no pool is named %q", in.GetService())
	}
	return out, nil
}

// Watch streams a pool's state until the client goes or the agent ends; for an unknown pool that is SERVICE_UNKNOWN, and the
// watch goes on, as the health protocol says.
func (h *healthService) Watch(in *healthpb.HealthCheckRequest, out grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	ctx, cancel := context.WithCancel(out.Context())
	defer cancel()
	defer context.AfterFunc(h.ended, cancel)()
	err := h.Server.Watch(in, &endingWatch{out, ctx})
	if h.ended.Err() != nil {
		return status.Error(codes.Unavailable, "the agent is ending")
	}
	return err
}

// endingWatch is a watch whose context ends with the agent too.
type endingWatch struct {
	grpc.ServerStreamingServer[healthpb.HealthCheckResponse]
	ctx context.Context
}

func (w *endingWatch) Context() context.Context { return w.ctx }

// stop says once more that nothing is served and ends the watches, so that no client holds up the end of the agent.
func (h *healthService) stop() {
	h.Shutdown()
	h.end()
}

// SetHealth publishes which pools serve.
func (s *apiServer) SetHealth(pools map[string]bool) { s.health.set(pools) }

func (h *healthService) set(pools map[string]bool) {
	all := true
	for name, serving := range pools {
		h.SetServingStatus(name, servingStatus(serving))
		h.known[name] = true
		all = all && serving
	}
	for name := range h.known {
		if _, still := pools[name]; !still {
			h.SetServingStatus(name, healthpb.HealthCheckResponse_SERVICE_UNKNOWN)
			delete(h.known, name)
		}
	}
	h.SetServingStatus("", servingStatus(all))
}

func servingStatus(serving bool) healthpb.HealthCheckResponse_ServingStatus {
	if serving {
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}
