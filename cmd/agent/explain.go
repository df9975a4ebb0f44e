package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/client"
	"github.com/spf13/cobra"
)

func newExplainCommand(g *global) *cobra.Command {
	return &cobra.Command{Use: "explain CALL", Short: "tell how a call ended, and why", Example: "  pitboss explain 17", Args: cobra.ExactArgs(1),
		Long: "Tell how a call ended, for the last 10 000 of them, or that it waits or runs still. The id of a call is in its error, in\nthe log and in `pitboss calls`; ids begin anew when the agent does.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.withCall(cmd.Context(), args[0], func(c *client.Client, call uint64) error {
				text, err := c.Explain(cmd.Context(), call)
				if err != nil {
					return err
				}
				if g.json {
					return printJSON(g.stdout, text)
				}
				var o agent.Outcome
				if err := json.Unmarshal(text, &o); err != nil {
					return fail(exitInternal, "", "cannot read the outcome: %w", err)
				}
				printOutcome(g.stdout, o)
				return nil
			})
		}}
}

// endings says for people what an outcome's ended_by does.
var endings = map[string]string{
	"result":    "answered",
	"queue":     "ended before it began",
	"exception": "answered with an error",
	"kill":      "ended with its worker's process",
}

func printOutcome(w io.Writer, o agent.Outcome) {
	queued, ran := seconds(o.QueuedS), seconds(o.RanS)
	fmt.Fprintf(w, "call    %d of %s/%s, came in %s\n", o.Call, o.Pool, o.Tool, o.CameIn.Format(time.RFC3339))
	switch {
	case o.State == "queued":
		fmt.Fprintf(w, "state   waits in the queue, for %s so far\n", queued)
		return
	case o.State == "running":
		fmt.Fprintf(w, "state   runs on %s, for %s so far, after %s in the queue\n", o.Worker, ran, queued)
		return
	case o.Began == nil:
		fmt.Fprintf(w, "state   %s, after %s\n", endings[o.EndedBy], queued)
	default:
		fmt.Fprintf(w, "state   %s on %s after %s, and %s in the queue\n", endings[o.EndedBy], o.Worker, ran, queued)
	}
	fmt.Fprintf(w, "reason  %s", o.Reason)
	if o.Message != "" {
		fmt.Fprintf(w, ": %s", o.Message)
	}
	if own := ownWords(o.ToolReason, o.Data); own != "" {
		fmt.Fprintf(w, "\n        %s", own)
	}
	if o.DataBytes > 0 {
		fmt.Fprintf(w, "\n        its data had %d bytes and is not kept", o.DataBytes)
	}
	effects := "none: the tool did not run"
	if o.MayHaveRun {
		effects = "possible: the tool ran, or may have"
	}
	fmt.Fprintf(w, "\neffects %s\n", effects)
	if pm := o.PostMortem; pm != nil {
		printPostMortem(w, pm)
	}
	if o.Traceback != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimRight(o.Traceback, "\n"))
	}
}

func printPostMortem(w io.Writer, pm *agent.PostMortem) {
	fmt.Fprintf(w, "worker  %s, up %s, calls %d", pm.Cause(), pm.Uptime, pm.Calls)
	if pm.MaxRSSKB > 0 {
		fmt.Fprintf(w, ", peak memory %d MiB", pm.MaxRSSKB>>10)
	}
	if pm.CleanUpMS > 0 {
		fmt.Fprintf(w, ", cleaned up in %s", short(time.Duration(pm.CleanUpMS*float64(time.Millisecond))))
	}
	fmt.Fprintln(w)
	for _, line := range pm.Output {
		fmt.Fprintf(w, "output  %s\n", line)
	}
}

func seconds(s float64) string { return short(time.Duration(s * float64(time.Second))) }
