package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
	"github.com/spf13/cobra"
)

// operation is a command that tells the agent to do one thing: do returns what it says when that is done.
func operation(g *global, use, short, example string, args cobra.PositionalArgs, do func(ctx context.Context, c *client.Client, args []string) (lines []string, doc any, err error)) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Example: example, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			lines, doc, err := do(cmd.Context(), c, args)
			var hinted *hintedError
			if errors.Is(err, client.BadArguments) && !errors.As(err, &hinted) { // no tool whose schema could help
				err = &hintedError{err, ""}
			}
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(g.stdout, doc)
			}
			for _, line := range lines {
				fmt.Fprintln(g.stdout, line)
			}
			return nil
		}}
}

func newRestartCommand(g *global) *cobra.Command {
	var pool string
	c := operation(g, "restart WORKER | restart --pool POOL", "replace one worker, or all of a pool by workers with new code",
		"  pitboss restart default-0.1       one worker\n  pitboss restart --pool default    all of them, with new code",
		cobra.MaximumNArgs(1), func(ctx context.Context, c *client.Client, args []string) ([]string, any, error) {
			var workers []string
			var err error
			switch {
			case (len(args) == 1) == (pool != ""):
				return nil, nil, fail(exitUsage, "`pitboss status` lists both", "name either a worker or --pool POOL")
			case pool != "":
				workers, err = c.RestartPool(ctx, pool)
			default:
				workers, err = c.RestartWorker(ctx, args[0])
			}
			if errors.Is(err, client.PoolFailed) {
				err = &hintedError{err, "mend the adapter and restart again"}
			}
			var lines []string
			for _, w := range workers {
				lines = append(lines, w+" serves")
			}
			return lines, map[string]any{"workers": workers}, err
		})
	c.Long = "The successor is ready before a worker ends, and its calls may end first. Code that cannot start changes nothing: the old\nworkers serve on."
	c.Flags().StringVar(&pool, "pool", "", "replace all workers of `POOL`")
	return c
}

func newDrainCommand(g *global) *cobra.Command {
	var pool string
	var timeout time.Duration
	c := operation(g, "drain [--pool POOL]", "take no new calls and wait until those that came have ended",
		"  pitboss drain --pool default --timeout 30s", cobra.NoArgs, func(ctx context.Context, c *client.Client, _ []string) ([]string, any, error) {
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
			}
			err := c.Drain(ctx, pool)
			var remote *client.Error // the agent may see the deadline first
			if ctx.Err() != nil || (errors.As(err, &remote) && remote.Reason == client.CallTimeout) {
				err = fail(exitTemporary, "`pitboss status` shows what still runs; `pitboss resume` ends the drain", "calls still run after %s; no new ones are taken", timeout)
			}
			return []string{"drained: nothing waits or runs; `pitboss resume` takes calls again"}, map[string]any{"drained": true}, err
		})
	c.Flags().StringVar(&pool, "pool", "", "only `POOL`")
	c.Long = "The drain holds after --timeout and after an interrupt; `pitboss resume` ends it."
	c.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait for running calls (default: until they have ended)")
	return c
}

func newResumeCommand(g *global) *cobra.Command {
	var pool string
	c := operation(g, "resume [--pool POOL]", "take calls again after a drain", "  pitboss resume\n  pitboss resume --pool default", cobra.NoArgs,
		func(ctx context.Context, c *client.Client, _ []string) ([]string, any, error) {
			return []string{"resumed"}, map[string]any{"resumed": true}, c.Resume(ctx, pool)
		})
	c.Flags().StringVar(&pool, "pool", "", "only `POOL`")
	return c
}

func newScaleCommand(g *global) *cobra.Command {
	c := operation(g, "scale POOL WORKERS", "set how many workers a pool has, until the next reload", "  pitboss scale default 8", cobra.ExactArgs(2),
		func(ctx context.Context, c *client.Client, args []string) ([]string, any, error) {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 1 || n > 1000 {
				return nil, nil, fail(exitUsage, "name a whole number from 1 to 1000", "cannot scale to %q workers", args[1])
			}
			return []string{fmt.Sprintf("%s: %s from now on", args[0], counted(n, "worker"))}, map[string]any{"pool": args[0], "workers": n}, c.Scale(ctx, args[0], n)
		})
	c.Long = "WORKERS is a number from 1 to 1 000. Workers that are too many end when their calls have."
	return c
}

func newReloadCommand(g *global) *cobra.Command {
	c := operation(g, "reload", "read the configuration again; a fault in it changes nothing", "  pitboss reload", cobra.NoArgs,
		func(ctx context.Context, c *client.Client, _ []string) ([]string, any, error) {
			changes, err := c.Reload(ctx)
			var remote *client.Error
			if errors.As(err, &remote) && remote.Reason == client.BadArguments {
				err = fail(exitConfig, "`pitboss config check FILE` shows every fault", "%s", strings.ReplaceAll(remote.Message, "\n", "\npitboss: "))
			}
			lines := changes
			if len(changes) == 0 {
				lines, changes = []string{"nothing has changed"}, []string{}
			}
			return lines, map[string]any{"changes": changes}, err
		})
	c.Long = "Each change is printed. What needs new workers replaces them as `pitboss restart` does. HUP to the agent does the same."
	return c
}
