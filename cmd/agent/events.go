package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/client"
	"github.com/spf13/cobra"
)

func newEventsCommand(g *global) *cobra.Command {
	var follow bool
	var prefix string
	c := &cobra.Command{Use: "events", Short: "show the last 1 000 events of the agent, a line each", Args: cobra.NoArgs,
		Example: "  pitboss events\n  pitboss events -f --prefix worker.     start and end of every worker",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.watch(cmd.Context(), follow, func(ctx context.Context, c *client.Client) error {
				err := c.Events(ctx, prefix, follow, g.printEvent)
				var remote *client.Error
				if errors.As(err, &remote) && remote.Reason == client.BadArguments { // the prefix
					return fail(exitUsage, "", "%s", remote.Message)
				}
				return err
			})
		}}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "stay, and show what happens from now on")
	c.Flags().StringVar(&prefix, "prefix", "", "only events whose name begins with `TEXT`, such as worker. or pool.state")
	return c
}

func newLogsCommand(g *global) *cobra.Command {
	var follow bool
	c := &cobra.Command{Use: "logs [POOL | WORKER]", Short: "show the last 1 000 lines that workers and launchers wrote", Args: cobra.MaximumNArgs(1),
		Long:    "Whatever a worker's process prints is kept, with the call that ran then. The agent's own log is on its standard error.",
		Example: "  pitboss logs\n  pitboss logs -f default        one pool, from now on too\n  pitboss logs default-0.1       one worker",
		RunE: func(cmd *cobra.Command, args []string) error {
			pool, worker := "", ""
			if len(args) == 1 && strings.Contains(args[0], ".") { // a pool's name has no dot, a worker's id always
				worker = args[0]
			} else if len(args) == 1 {
				pool = args[0]
			}
			return g.watch(cmd.Context(), follow, func(ctx context.Context, c *client.Client) error {
				return c.Logs(ctx, pool, worker, follow, g.printLine)
			})
		}}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "stay, and show what is written from now on")
	return c
}

// errPrinting marks that standard output takes no more.
var errPrinting = errors.New("cannot print")

// watch runs a stream until it ends, the user interrupts it or the agent is gone.
func (g *global) watch(ctx context.Context, follow bool, run func(context.Context, *client.Client) error) error {
	c, err := g.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	interrupted, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err = run(interrupted, c)
	var remote *client.Error
	switch {
	case interrupted.Err() != nil:
		return &codeError{code: exitInterrupted}
	case errors.Is(err, errPrinting):
		return fail(exitFailed, "", "%w", err)
	case follow && (err == nil || !mute(err)) && (err == nil || errors.As(err, &remote) && remote.Reason == client.Unreachable):
		return fail(exitUnavailable, "start it again with `pitboss agent`", "the agent at %q has ended", g.socketPath())
	}
	return err
}

const shownTime = "2006-01-02 15:04:05.000"

func (g *global) printEvent(e client.Event) error {
	if g.json {
		return g.printJSONLine(e)
	}
	fields, err := shownFields(e.Fields)
	if err != nil {
		return fail(exitInternal, "", "cannot read event %d: %w", e.Seq, err)
	}
	if err := g.printLost(e.Lost, "event"); err != nil {
		return err
	}
	text := fmt.Sprintf("%s  %-22s%s", e.Time.Local().Format(shownTime), e.Name, fields)
	return g.printText("%s\n", g.people().wrapped(len(shownTime)+2, text))
}

// shownFields is the fields as key=value in their order; a text with more than one line is shown by its first.
func shownFields(object []byte) (string, error) {
	var b strings.Builder
	d := json.NewDecoder(bytes.NewReader(object))
	d.UseNumber()
	if _, err := d.Token(); err != nil {
		return "", err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return "", err
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return "", err
		}
		shown := fmt.Sprint(value)
		if first, _, more := strings.Cut(shown, "\n"); more {
			shown = first + " …"
		}
		if shown == "" || strings.ContainsAny(shown, " \"=\t") {
			shown = fmt.Sprintf("%q", shown)
		}
		fmt.Fprintf(&b, " %v=%s", key, shown)
	}
	return b.String(), nil
}

func (g *global) printLine(l client.Line) error {
	if g.json {
		return g.printJSONLine(l)
	}
	from := l.Worker
	if from == "launcher" {
		from = l.Pool + "/launcher"
	}
	if l.Call != 0 {
		from += fmt.Sprintf(" call %d", l.Call)
	}
	if err := g.printLost(l.Lost, "line"); err != nil {
		return err
	}
	return g.printText("%s  [%s %s] %s\n", l.Time.Local().Format(shownTime), from, l.Stream, l.Text)
}

func (g *global) printLost(n uint64, noun string) error {
	if n == 0 {
		return nil
	}
	return g.printText("… %s lost: this reader is too slow\n", counted(int(n), noun))
}

func (g *global) printJSONLine(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fail(exitInternal, "", "cannot encode: %w", err)
	}
	return g.printText("%s\n", text)
}

func (g *global) printText(format string, args ...any) error {
	if _, err := fmt.Fprintf(g.stdout, format, args...); err != nil {
		return fmt.Errorf("%w: %w", errPrinting, err)
	}
	return nil
}

// lastDeath is one line about an agent that died.
func lastDeath(d *agent.DeathCertificate) string {
	return fmt.Sprintf("last death: agent pid %d, %s; empty after %s, %d killed, %d left (proof %s)", d.AgentPID, d.Cause,
		(time.Duration(d.EmptyUS) * time.Microsecond).Round(time.Millisecond), d.Killed, d.SurvivorCount, d.Proof)
}
