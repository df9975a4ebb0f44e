package main

import (
	"context"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/client"
	"github.com/spf13/cobra"
)

// completionPatience bounds how long a Tab waits for the agent.
const completionPatience = 500 * time.Millisecond

// completion answers a Tab with names of the running agent. Without one it is silent: a prompt is no place for errors.
func (g *global) completion(names func(context.Context, *client.Client) []cobra.Completion) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
		defer cancel()
		c, err := g.connect(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer c.Close()
		return names(ctx, c), cobra.ShellCompDirectiveNoFileComp
	}
}

// first completes only the first word; the rest is left to the shell.
func first(f cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return f(cmd, args, word)
	}
}

func toolNames(ctx context.Context, c *client.Client) (names []cobra.Completion) {
	tools, _ := c.Tools(ctx, "")
	pools := map[string]bool{}
	for _, t := range tools {
		pools[t.Pool] = true
	}
	for _, t := range tools {
		name := t.Pool + "/" + t.Name
		if len(pools) == 1 {
			name = t.Name
		}
		names = append(names, name)
	}
	return names
}

func poolNames(ctx context.Context, c *client.Client) (names []cobra.Completion) {
	for _, p := range completing(ctx, c).Pools {
		names = append(names, p.Name)
	}
	return names
}

func workerNames(ctx context.Context, c *client.Client) (names []cobra.Completion) {
	for _, p := range completing(ctx, c).Pools {
		for _, w := range p.Workers {
			names = append(names, w.ID)
		}
	}
	return names
}

// completeNames hooks completion into every command: by the name of its first argument, and of its --pool.
func (g *global) completeNames(root *cobra.Command) {
	for _, c := range root.Commands() {
		if c.Flags().Lookup("pool") != nil {
			_ = c.RegisterFlagCompletionFunc("pool", g.completion(poolNames))
		}
		switch c.Name() {
		case "call":
			c.ValidArgsFunction = first(g.completion(toolNames))
		case "ping", "stack", "restart":
			c.ValidArgsFunction = first(g.completion(workerNames))
		case "scale", "logs":
			c.ValidArgsFunction = first(g.completion(poolNames))
		}
	}
}

// completing is the status; of an agent whose answer cannot be read nothing is completed.
func completing(ctx context.Context, c *client.Client) agent.Status {
	s, _ := statusOf(ctx, c)
	return s
}
