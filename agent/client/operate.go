package client

import (
	"context"

	pb "github.com/pitboss-run/pitboss/proto/pitboss/v1"
)

// RestartWorker replaces one worker once its successor is ready, and returns the successor's id.
func (c *Client) RestartWorker(ctx context.Context, worker string) ([]string, error) {
	out, err := c.admin.Restart(ctx, &pb.RestartRequest{Worker: worker})
	return out.GetWorkers(), errorOf(err)
}

// RestartPool replaces all workers of a pool by ones with new code, each once its successor is ready, and returns the new ids.
// If new ones cannot start, the error's reason is POOL_FAILED and the old ones serve on.
func (c *Client) RestartPool(ctx context.Context, pool string) ([]string, error) {
	out, err := c.admin.Restart(ctx, &pb.RestartRequest{Pool: pool})
	return out.GetWorkers(), errorOf(err)
}

// Drain stops the intake of a pool, or of all for an empty name, and returns when no call waits or runs in them. ctx bounds the
// wait, not the drain.
func (c *Client) Drain(ctx context.Context, pool string) error {
	_, err := c.admin.Drain(ctx, &pb.DrainRequest{Pool: pool})
	return errorOf(err)
}

// Resume ends a drain.
func (c *Client) Resume(ctx context.Context, pool string) error {
	_, err := c.admin.Resume(ctx, &pb.ResumeRequest{Pool: pool})
	return errorOf(err)
}

// Scale sets the number of workers of a pool, 1 to 1 000, until the next reload.
func (c *Client) Scale(ctx context.Context, pool string, workers int) error {
	_, err := c.admin.Scale(ctx, &pb.ScaleRequest{Pool: pool, Workers: int32(workers)})
	return errorOf(err)
}

// Reload makes the agent read its configuration again and returns what changed, one line each. A fault in the configuration
// changes nothing and is the error.
func (c *Client) Reload(ctx context.Context) ([]string, error) {
	out, err := c.admin.Reload(ctx, &pb.ReloadRequest{})
	return out.GetChanges(), errorOf(err)
}
