package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
	"github.com/spf13/cobra"
)

const (
	waitLimit  = 60 * time.Second // of `wait`, by default
	probeLimit = 5 * time.Second  // of `health`, by default
)

func newWaitCommand(g *global) *cobra.Command {
	var pool string
	var timeout time.Duration
	c := &cobra.Command{Use: "wait [--pool POOL]", Short: "wait until the agent is there and takes calls", Args: cobra.NoArgs,
		Long:    "Every pool must take calls, or the one that --pool names. Nothing is printed then.",
		Example: "  pitboss agent --config pitboss.yaml &\n  pitboss wait && pitboss call add a=1 b=2",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.probe(cmd.Context(), timeout, pool, func(ctx context.Context, c *client.Client) error {
				return g.wait(ctx, c, pool, timeout)
			})
		}}
	c.Flags().StringVar(&pool, "pool", "", "only `POOL`")
	c.Flags().DurationVar(&timeout, "timeout", waitLimit, "how long to wait")
	return c
}

func newHealthCommand(g *global) *cobra.Command {
	var pool string
	var timeout time.Duration
	c := &cobra.Command{Use: "health [--pool POOL]", Short: "say by the exit code whether calls are taken now", Args: cobra.NoArgs,
		Long:    "Every pool must take calls, or the one that --pool names. Nothing is printed then. For the probes of a container.",
		Example: "  pitboss health\n  pitboss health --pool default --timeout 1s",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.probe(cmd.Context(), timeout, pool, func(ctx context.Context, c *client.Client) error {
				return g.healthy(ctx, c, pool, timeout)
			})
		}}
	c.Flags().StringVar(&pool, "pool", "", "only `POOL`")
	c.Flags().DurationVar(&timeout, "timeout", probeLimit, "how long the agent may take to answer")
	return c
}

// probe runs a question to the agent within its time; with --json it prints what came of it.
func (g *global) probe(ctx context.Context, timeout time.Duration, pool string, ask func(context.Context, *client.Client) error) error {
	if timeout <= 0 {
		return fail(exitUsage, "write a duration such as 30s", "--timeout must be above 0, not %s", timeout)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	path, err := g.trustedSocket()
	if err != nil {
		return err
	}
	c, err := client.New(path)
	if err != nil {
		return noAgent(path, err)
	}
	defer c.Close()
	timed, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err = ask(timed, c); ctx.Err() != nil {
		return &codeError{code: exitInterrupted}
	}
	if err == nil && g.json {
		return printJSON(g.stdout, map[string]any{"pool": pool, "serving": true})
	}
	return g.withPools(err, c, pool)
}

// withPools adds to an unknown pool's error what there is; a name that is nearly right comes first.
func (g *global) withPools(err error, c *client.Client, pool string) error {
	if !errors.Is(err, client.UnknownPool) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeLimit)
	defer cancel()
	var better *client.Error
	if _, e := c.Tools(ctx, pool); errors.As(e, &better) && better.Reason == client.UnknownPool {
		return better
	}
	return err
}

func (g *global) wait(ctx context.Context, c *client.Client, pool string, timeout time.Duration) error {
	err := c.WaitReady(ctx, pool)
	var late *client.NotReadyError
	if !errors.As(err, &late) {
		return err
	}
	if errors.Is(late.Last, client.Unreachable) {
		return fail(exitUnavailable, "start one with `pitboss agent`, or name its socket with --socket", "no agent at %q within %s", g.socketPath(), timeout)
	}
	return fail(exitTemporary, "`pitboss status` shows what it waits for; give more time with --timeout", "not ready within %s: %v", timeout, late.Last)
}

func (g *global) healthy(ctx context.Context, c *client.Client, pool string, timeout time.Duration) error {
	serving, err := c.Serving(ctx, pool)
	switch {
	case errors.Is(err, client.CallTimeout):
		return fail(exitTemporary, "", "the agent did not answer within %s", timeout)
	case errors.Is(err, client.Unreachable):
		return noAgent(g.socketPath(), err)
	case err != nil || serving:
		return err
	}
	what := "not every pool serves"
	if pool != "" {
		what = fmt.Sprintf("pool %q does not serve", pool)
	}
	return fail(exitFailed, "`pitboss status` says why", "%s", what)
}
