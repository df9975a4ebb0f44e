package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/ipc"
	"github.com/spf13/cobra"
)

func newToolsCommand(g *global) *cobra.Command {
	var schema bool
	var pool string
	c := &cobra.Command{Use: "tools", Short: "list what can be called", Args: cobra.NoArgs,
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
				fmt.Fprintf(g.stdout, "%s/%s(%s)%s\n", t.Pool, t.Name, strings.Join(params, ", "), kind)
				if first, _, _ := strings.Cut(t.Doc, "\n"); first != "" {
					fmt.Fprintf(g.stdout, "    %s\n", first)
				}
				if schema {
					fmt.Fprintf(g.stdout, "    %s\n", t.Schema)
				}
			}
			return nil
		}}
	c.Flags().BoolVar(&schema, "schema", false, "with the JSON Schema of the arguments")
	c.Flags().StringVar(&pool, "pool", "", "only this pool's")
	return c
}

func newStatusCommand(g *global) *cobra.Command {
	return &cobra.Command{Use: "status", Short: "show agent, watchdog, pools and workers", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			text, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			var s agent.Status
			if err := json.Unmarshal(text, &s); err != nil {
				return fail(exitInternal, "", "cannot read the status: %w", err)
			}
			if g.json {
				return printJSON(g.stdout, s)
			}
			return printStatus(g.stdout, s)
		}}
}

func printStatus(w io.Writer, s agent.Status) error {
	up := time.Duration(s.Agent.UptimeS * float64(time.Second)).Round(time.Second)
	fmt.Fprintf(w, "agent     pid %d, %s, up %s, tier %s, run %s\n", s.Agent.PID, s.Agent.State, up, s.Agent.Tier, s.Agent.RunID)
	fmt.Fprintf(w, "watchdog  pid %d, %s\nsocket    %s\n", s.Watchdog.PID, s.Watchdog.State, s.Agent.Socket)
	if s.LastDeath != nil {
		fmt.Fprintln(w, lastDeath(s.LastDeath))
	}
	printSwept(w, s.Swept)
	for _, p := range s.Pools {
		fmt.Fprintf(w, "\npool %s: %s, %d of %d ready, %d busy, %d queued, %s, %s (%s, launcher %d, %s)\n",
			p.Name, p.State, p.Ready+p.Busy, p.Desired, p.Busy, p.Queued, counted(int(p.CallsTotal), "call"), counted(int(p.ErrorsTotal), "error"), p.StartMethod, p.LauncherPID, p.Python)
		if p.Reason != "" {
			fmt.Fprintf(w, "  %s\n", p.Reason)
		}
		if p.Doing != "" {
			fmt.Fprintf(w, "  launcher: %s\n", progress(p.Doing, p.DoingS))
		}
		if p.StartRefusal != "" {
			fmt.Fprintf(w, "  no fork: %s\n", p.StartRefusal)
		}
		t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
		fmt.Fprintln(t, "  WORKER\tPID\tSTATE\tVERDICT\tCALLS\tRTT\tLAST EXIT")
		for _, k := range p.Workers {
			state := k.State
			if k.Doing != "" {
				state += " (" + progress(k.Doing, k.DoingS) + ")"
			}
			fmt.Fprintf(t, "  %s\t%d\t%s\t%s\t%d\t%.2f ms\t%s\n", k.ID, k.PID, state, k.Heartbeat.Verdict, k.CallsTotal, k.Heartbeat.RTTMS, k.LastExit)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// progress is "importing torch, 41 s": what a start does, and for how long.
func progress(doing string, s float64) string { return fmt.Sprintf("%s, %.0f s", doing, s) }

// printSwept says what an earlier run had left, if there is anything to say.
func printSwept(w io.Writer, s *agent.SweepStatus) {
	if s == nil {
		return
	}
	if s.Refused != "" {
		fmt.Fprintf(w, "not swept %s\n", s.Refused)
		return
	}
	fmt.Fprintf(w, "swept     %s of run %s", plural(s.Killed, "process", "processes"), s.RunID)
	if len(s.Left) > 0 {
		fmt.Fprintf(w, "; could not end %v", s.Left)
	}
	fmt.Fprintln(w)
}

func newPingCommand(g *global) *cobra.Command {
	return &cobra.Command{Use: "ping WORKER", Short: "ask one worker for a sign of life", Args: cobra.ExactArgs(1),
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

func newStopCommand(g *global) *cobra.Command {
	return &cobra.Command{Use: "stop", Short: "drain the agent and end it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.Stop(cmd.Context(), "pitboss stop"); err != nil {
				return err
			}
			return nil
		}}
}

func newVersionCommand(g *global) *cobra.Command {
	var pythonPath bool
	c := &cobra.Command{Use: "version", Short: "print versions", Args: cobra.NoArgs,
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
