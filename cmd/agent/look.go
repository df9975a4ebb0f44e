package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/client"
	"github.com/pitboss-run/pitboss/ipc"
	"github.com/spf13/cobra"
)

func newToolsCommand(g *global) *cobra.Command {
	var schema bool
	var pool string
	c := &cobra.Command{Use: "tools", Short: "list what can be called", Args: cobra.NoArgs,
		Example: "  pitboss tools\n  pitboss tools --pool default --schema",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			tools, err := c.Tools(cmd.Context(), pool)
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(g.stdout, tools)
			}
			for _, t := range tools {
				if err := printTool(g.people(), t, schema); err != nil {
					return err
				}
			}
			return nil
		}}
	c.Flags().BoolVar(&schema, "schema", false, "with the JSON Schema of the arguments")
	c.Flags().StringVar(&pool, "pool", "", "only those of `POOL`")
	return c
}

// printTool prints a tool's signature and the first line of its documentation.
func printTool(s screen, t client.Tool, schema bool) error {
	var params []string
	for _, p := range t.Params {
		word := p.Name + ": " + p.Type
		if !p.Required {
			word += " = " + string(p.Default)
		}
		params = append(params, word)
	}
	kind := ""
	if t.Stream {
		kind = "  (stream)"
	}
	s.line(8, "%s/%s(%s)%s", t.Pool, t.Name, strings.Join(params, ", "), kind)
	if first, _, _ := strings.Cut(t.Doc, "\n"); first != "" {
		s.line(4, "    %s", first)
	}
	if !schema {
		return nil
	}
	text := bytes.NewBuffer(t.Schema)
	if s.width > 0 { // not wrapped, which would be no JSON any more
		text = &bytes.Buffer{}
		if err := json.Indent(text, t.Schema, "    ", "  "); err != nil {
			return fail(exitInternal, "", "cannot read the schema of %q: %w", t.Name, err)
		}
	}
	fmt.Fprintf(s, "    %s\n", text)
	return nil
}

func newStatusCommand(g *global) *cobra.Command {
	return &cobra.Command{Use: "status", Short: "show agent, watchdog, pools and workers", Args: cobra.NoArgs,
		Long:    "The last death of an agent here is shown too, with what was swept after it. The fields of --json are only ever added to.",
		Example: "  pitboss status\n  pitboss status --json | jq '.pools[].state'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := statusOf(cmd.Context(), c)
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(g.stdout, s)
			}
			printStatus(g.people(), s)
			return nil
		}}
}

// statusOf asks an agent for its status.
func statusOf(ctx context.Context, c *client.Client) (s agent.Status, err error) {
	text, err := c.Status(ctx)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fail(exitInternal, "", "cannot read the status: %w", err)
	}
	return s, nil
}

const statusIndent = len("watchdog  ")

func printStatus(w screen, s agent.Status) {
	up := time.Duration(s.Agent.UptimeS * float64(time.Second)).Round(time.Second)
	w.line(statusIndent, "agent     pid %d, %s, up %s, tier %s, run %s", s.Agent.PID, s.Agent.State, up, s.Agent.Tier, s.Agent.RunID)
	if bind := boundLimits(s.Agent.Limits); bind != "" {
		w.line(statusIndent, "limits    %s", bind)
	}
	w.line(statusIndent, "watchdog  pid %d, %s", s.Watchdog.PID, s.Watchdog.State)
	w.line(statusIndent, "socket    %s", s.Agent.Socket)
	if s.LastDeath != nil {
		w.line(statusIndent, "%s", lastDeath(s.LastDeath))
	}
	if s.Swept != nil {
		w.line(statusIndent, "%s", swept(s.Swept))
	}
	if len(s.Pools) == 0 {
		w.line(statusIndent, "pools     none; add one under `pools:` in %s, then `pitboss reload`", s.Agent.Config)
	}
	for _, p := range s.Pools {
		fmt.Fprintln(w)
		printPool(w, p)
	}
}

// progress is "importing torch, 41 s": what a start does, and for how long.
func progress(doing string, s float64) string { return fmt.Sprintf("%s, %.0f s", doing, s) }

// printPool begins with what is wrong, if anything is.
func printPool(w screen, p agent.PoolStatus) {
	w.line(2, "pool %s: %s, %d of %d ready, %d busy, %d queued", p.Name, p.State, p.Ready+p.Busy, p.Desired, p.Busy, p.Queued)
	if p.Reason != "" {
		w.line(2, "  %s", strings.ReplaceAll(p.Reason, "\n", "\n  "))
	}
	if p.Doing != "" {
		w.line(2, "  launcher: %s", progress(p.Doing, p.DoingS))
	}
	if p.StartRefusal != "" {
		w.line(2, "  no fork: %s", p.StartRefusal)
	}
	for _, waiting := range p.Waiting {
		w.line(2, "  %s", waiting)
	}
	for _, void := range p.LimitsVoid {
		w.line(2, "  not enforced: %s", void)
	}
	rejected := ""
	if p.RejectedTotal > 0 {
		rejected = fmt.Sprintf(", %d rejected", p.RejectedTotal)
	}
	w.line(4, "  %s, %s%s; %s, launcher %d, %s", counted(int(p.CallsTotal), "call"), counted(int(p.ErrorsTotal), "error"), rejected, p.StartMethod, p.LauncherPID, p.Python)
	if len(p.Workers) == 0 {
		return
	}
	rows := [][]string{{"WORKER", "PID", "STATE", "VERDICT", "CALLS", "RTT", "LAST EXIT"}}
	for _, k := range p.Workers {
		state := k.State
		if k.Doing != "" {
			state += " (" + progress(k.Doing, k.DoingS) + ")"
		}
		rows = append(rows, []string{k.ID, strconv.Itoa(k.PID), state, k.Heartbeat.Verdict, strconv.FormatUint(k.CallsTotal, 10), fmt.Sprintf("%.2f ms", k.Heartbeat.RTTMS), k.LastExit})
	}
	w.table(2, rows)
}

// boundLimits names the limits that the kernel enforces here; those that it does not are told of the pools that set them.
func boundLimits(limits []agent.LimitStatus) string {
	var bound []string
	for _, l := range limits {
		if l.State == "enforced" {
			bound = append(bound, l.Limit)
		}
	}
	if len(bound) == 0 {
		return ""
	}
	return strings.Join(bound, ", ") + " are enforced"
}

// swept says what an earlier run had left.
func swept(s *agent.SweepStatus) string {
	if s.Refused != "" {
		return "not swept " + s.Refused
	}
	left := ""
	if len(s.Left) > 0 {
		left = fmt.Sprintf("; could not end %v", s.Left)
	}
	return fmt.Sprintf("swept     %s of run %s%s", plural(s.Killed, "process", "processes"), s.RunID, left)
}

func newPingCommand(g *global) *cobra.Command {
	return &cobra.Command{Use: "ping WORKER", Short: "ask one worker for a sign of life", Args: cobra.ExactArgs(1),
		Example: "  pitboss ping default-0.1",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
			defer cancel()
			pong, err := c.Ping(ctx, args[0])
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(g.stdout, pong)
			}
			fmt.Fprintf(g.stdout, "%s (pid %d) answered after %s: %s, %d calls in flight\n", pong.Worker, pong.PID, pong.RTT.Round(time.Microsecond), pong.Verdict, len(pong.Calls))
			return nil
		}}
}

func newVersionCommand(g *global) *cobra.Command {
	var pythonPath bool
	c := &cobra.Command{Use: "version", Short: "print versions, or where the Python package is", Args: cobra.NoArgs,
		Example: "  pitboss version\n  PYTHONPATH=$(pitboss version --python-path) python3 -c 'import pitboss'",
		RunE: func(*cobra.Command, []string) error {
			if pythonPath {
				return printPythonPath(g)
			}
			if g.json {
				return printJSON(g.stdout, map[string]any{"version": ipc.Version, "go": runtime.Version(), "protocol": ipc.FrameVersion})
			}
			fmt.Fprintf(g.stdout, "pitboss %s (%s, protocol %d)\n", ipc.Version, runtime.Version(), ipc.FrameVersion)
			return nil
		}}
	c.Flags().BoolVar(&pythonPath, "python-path", false, "print the directory of the Python package that this command carries")
	return c
}

// printPythonPath extracts the Python package where the agents of this user have it.
func printPythonPath(g *global) error {
	if err := makeDir(runtimeBase()); err != nil {
		return err
	}
	dir, err := agent.ExtractLibrary(runtimeBase())
	if err != nil {
		return fail(exitFailed, "", "%w", err)
	}
	if g.json {
		return printJSON(g.stdout, map[string]string{"python_path": dir})
	}
	_, err = fmt.Fprintln(g.stdout, dir)
	return err
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
