package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pitboss-run/pitboss/agent/client"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newStopCommand(g *global) *cobra.Command {
	var noWait bool
	c := &cobra.Command{Use: "stop", Short: "drain the agent, end it, and wait until all of it is gone", Args: cobra.NoArgs,
		Long:    "New calls are refused, those that run may end within timeouts.drain of their pool.",
		Example: "  pitboss stop\n  pitboss stop --no-wait",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			end, err := watchEnd(cmd.Context(), c)
			if err != nil {
				return err
			}
			if err := c.Stop(cmd.Context(), "pitboss stop"); err != nil {
				return err
			}
			if !noWait {
				err = end(cmd.Context())
			}
			if err == nil && g.json {
				return printJSON(g.stdout, map[string]any{"stopping": true, "stopped": !noWait})
			}
			return err
		}}
	c.Flags().BoolVar(&noWait, "no-wait", false, "return as soon as the agent knows")
	return c
}

// watchEnd takes hold of an agent, and returns what waits for its end: for that of its first process, by pidfd, or where that
// cannot be seen, as from another pid namespace, for that of its events.
func watchEnd(ctx context.Context, c *client.Client) (wait func(context.Context) error, err error) {
	s, err := statusOf(ctx, c)
	if err != nil {
		return nil, err
	}
	pid := s.Watchdog.PID
	if pid == 0 || s.Watchdog.State == "gone" || s.Watchdog.State == "off" {
		pid = s.Agent.PID
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if comm, readErr := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && readErr == nil && strings.HasPrefix(string(comm), "pitboss") {
		return func(context.Context) error { return awaitExit(fd) }, nil
	}
	if err == nil {
		_ = unix.Close(fd)
	}
	return func(ctx context.Context) error {
		err := c.Events(ctx, "", true, func(client.Event) error { return nil })
		if errors.Is(err, client.Unreachable) {
			return nil
		}
		return err
	}, nil
}

// awaitExit returns when the process of a pidfd has ended (pidfd_open(2): then it is readable), and closes it.
func awaitExit(fd int) error {
	defer unix.Close(fd)
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fail(exitInternal, "`pitboss status` says whether it is gone", "cannot wait for the end of the agent: %w", err)
		}
	}
}
