package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
	"github.com/spf13/cobra"
)

func newCallsCommand(g *global) *cobra.Command {
	var pool string
	c := &cobra.Command{Use: "calls", Short: "list the calls that wait or run now, oldest first",
		Example: "  pitboss calls\n  pitboss calls --pool default", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			calls, err := c.Calls(cmd.Context(), pool)
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(g.stdout, calls)
			}
			if len(calls) == 0 {
				fmt.Fprintln(g.stdout, "no call waits or runs")
				return nil
			}
			rows := [][]string{{"CALL", "TOOL", "STATE", "WORKER", "AGE", "LEFT"}}
			for _, i := range calls {
				rows = append(rows, []string{strconv.FormatUint(i.Call, 10), i.Pool + "/" + i.Tool, i.State, cmp.Or(i.Worker, "-"), short(i.Age), short(max(i.Left, 0))})
			}
			g.people().table(0, rows)
			return nil
		}}
	c.Flags().StringVar(&pool, "pool", "", "only those of `POOL`")
	return c
}

// short is a time for people: three digits say enough.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(100 * time.Nanosecond).String()
}

// withCall runs act on the call whose id is the only argument.
func (g *global) withCall(ctx context.Context, arg string, act func(c *client.Client, call uint64) error) error {
	call, err := strconv.ParseUint(arg, 10, 64)
	if err != nil || call == 0 {
		return fail(exitUsage, "`pitboss calls` lists those that wait or run", "a call's id is a whole number above 0, not %q", arg)
	}
	c, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return act(c, call)
}

func newCancelCommand(g *global) *cobra.Command {
	return &cobra.Command{Use: "cancel CALL", Short: "end one call that waits or runs",
		Long:    "A call that waits leaves the queue and has never run. The worker of one that runs is killed and replaced: the call may\nhave had effects. `pitboss calls` lists the ids.",
		Example: "  pitboss cancel 17", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.withCall(cmd.Context(), args[0], func(c *client.Client, call uint64) error {
				endedBy, err := c.Cancel(cmd.Context(), call)
				if err != nil {
					return err
				}
				switch {
				case g.json:
					return printJSON(g.stdout, map[string]any{"call": call, "ended_by": endedBy})
				case endedBy == "queue":
					fmt.Fprintf(g.stdout, "call %d left the queue; it never ran\n", call)
				default:
					fmt.Fprintf(g.stdout, "call %d ends: its worker is killed and replaced; it may have had effects\n", call)
				}
				return nil
			})
		}}
}

func newStackCommand(g *global) *cobra.Command {
	return &cobra.Command{Use: "stack WORKER", Short: "show where the main thread of a worker is now",
		Long:    "The worker need not cooperate, and its call goes on; only a C library that sleeps in nanosleep(2) without looking at EINTR\nwakes early. `pitboss status` lists the workers.",
		Example: "  pitboss stack default-0.1", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			text, err := c.Stack(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(g.stdout, map[string]any{"worker": args[0], "stack": text})
			}
			fmt.Fprintln(g.stdout, strings.TrimRight(text, "\n"))
			return nil
		}}
}
