package agent

import (
	"context"

	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
)

func (s *adminService) Restart(ctx context.Context, in *pb.RestartRequest) (*pb.RestartResponse, error) {
	workers, err := s.core.Restart(ctx, in.GetWorker(), in.GetPool())
	if err != nil {
		return nil, statusOf(err)
	}
	return &pb.RestartResponse{Workers: workers}, nil
}

func (s *adminService) Drain(ctx context.Context, in *pb.DrainRequest) (*pb.DrainResponse, error) {
	if err := s.core.Drain(ctx, in.GetPool()); err != nil {
		return nil, statusOf(err)
	}
	return &pb.DrainResponse{}, nil
}

func (s *adminService) Resume(_ context.Context, in *pb.ResumeRequest) (*pb.ResumeResponse, error) {
	if err := s.core.Resume(in.GetPool()); err != nil {
		return nil, statusOf(err)
	}
	return &pb.ResumeResponse{}, nil
}

func (s *adminService) Scale(_ context.Context, in *pb.ScaleRequest) (*pb.ScaleResponse, error) {
	if err := s.core.Scale(in.GetPool(), int(in.GetWorkers())); err != nil {
		return nil, statusOf(err)
	}
	return &pb.ScaleResponse{}, nil
}

func (s *adminService) Reload(ctx context.Context, _ *pb.ReloadRequest) (*pb.ReloadResponse, error) {
	changes, err := s.core.Reload(ctx)
	if err != nil {
		return nil, statusOf(err)
	}
	return &pb.ReloadResponse{Changes: changes}, nil
}
