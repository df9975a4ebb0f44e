package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/client"
	"github.com/spf13/cobra"
)

func newExplainCommand(g *global) *cobra.Command {
	return &cobra.Command{Use: "explain CALL", Short: "tell how a call ended, and why", Example: "  pitboss explain 17", Args: cobra.ExactArgs(1),
		Long: "The last 10 000 calls that ended are known, and those that wait or run. The id of a call is in its error, in the log and in\n`pitboss calls`; ids begin anew when the agent does.",
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
				printOutcome(g.people(), o)
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

const explainIndent = len("effects ")

func printOutcome(w screen, o agent.Outcome) {
	queued, ran := seconds(o.QueuedS), seconds(o.RanS)
	w.line(explainIndent, "call    %d of %s/%s, came in %s", o.Call, o.Pool, o.Tool, o.CameIn.Format(time.RFC3339))
	switch {
	case o.State == "queued":
		w.line(explainIndent, "state   waits in the queue, for %s so far", queued)
		return
	case o.State == "running":
		w.line(explainIndent, "state   runs on %s, for %s so far, after %s in the queue", o.Worker, ran, queued)
		return
	case o.Began == nil:
		w.line(explainIndent, "state   %s, after %s", endings[o.EndedBy], queued)
	default:
		w.line(explainIndent, "state   %s on %s after %s, and %s in the queue", endings[o.EndedBy], o.Worker, ran, queued)
	}
	reason := o.Reason
	if o.Message != "" {
		reason += ": " + o.Message
	}
	w.line(explainIndent, "reason  %s", reason)
	if own := ownWords(o.ToolReason, o.Data); own != "" {
		w.line(explainIndent, "        %s", own)
	}
	if o.DataBytes > 0 {
		w.line(explainIndent, "        its data had %d bytes and is not kept", o.DataBytes)
	}
	effects := "none: the tool did not run"
	if o.MayHaveRun {
		effects = "possible: the tool ran, or may have"
	}
	w.line(explainIndent, "effects %s", effects)
	if pm := o.PostMortem; pm != nil {
		printPostMortem(w, pm)
	}
	if o.Traceback != "" { // never wrapped: it is code to copy
		fmt.Fprintf(w, "\n%s\n", strings.TrimRight(o.Traceback, "\n"))
	}
}

func printPostMortem(w screen, pm *agent.PostMortem) {
	facts := fmt.Sprintf("%s, up %s, calls %d", pm.Cause(), pm.Uptime, pm.Calls)
	if pm.MaxRSSKB > 0 {
		facts += fmt.Sprintf(", peak memory %d MiB", pm.MaxRSSKB>>10)
	}
	if pm.CleanUpMS > 0 {
		facts += ", cleaned up in " + short(time.Duration(pm.CleanUpMS*float64(time.Millisecond)))
	}
	w.line(explainIndent, "worker  %s", facts)
	for _, line := range pm.Output {
		w.line(explainIndent, "output  %s", line)
	}
}

func seconds(s float64) string { return short(time.Duration(s * float64(time.Second))) }
