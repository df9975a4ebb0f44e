package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/spf13/cobra"
)

func newWorkersCommand(g *global) *cobra.Command {
	var pool string
	c := &cobra.Command{Use: "workers", Short: "list the workers: what each does, its age, its memory", Example: "  pitboss workers --pool default", Args: cobra.NoArgs,
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
			rows, err := workersOf(s, pool)
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(g.stdout, rows)
			}
			return printWorkers(g.stdout, rows)
		}}
	c.Flags().StringVar(&pool, "pool", "", "only this pool's")
	return c
}

// workerRow is a worker of status with its pool.
type workerRow struct {
	Pool string `json:"pool"`
	agent.WorkerStatus
}

// workersOf takes the workers out of a status; an empty pool means all.
func workersOf(s agent.Status, pool string) ([]workerRow, error) {
	rows, names := []workerRow{}, []string{}
	for _, p := range s.Pools {
		names = append(names, p.Name)
		for _, w := range p.Workers {
			if pool == "" || pool == p.Name {
				rows = append(rows, workerRow{p.Name, w})
			}
		}
	}
	if pool == "" || slices.Contains(names, pool) {
		return rows, nil
	}
	next := "`pitboss status` lists the pools"
	if near := agent.NearName(pool, names); near != "" {
		next = fmt.Sprintf("did you mean %q? ", near) + next
	}
	return nil, fail(exitUsage, next, "UNKNOWN_POOL: there is no pool %q", pool)
}

func printWorkers(w io.Writer, rows []workerRow) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "no worker lives now; `pitboss status` says why")
		return err
	}
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	fmt.Fprintln(t, "WORKER\tPID\tSTATE\tVERDICT\tUP\tCALLS\tRSS\tPSS")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%d\t%s\t%s\n", r.ID, r.PID, r.State, orDash(r.Heartbeat.Verdict),
			short(time.Duration(r.UptimeS*float64(time.Second))), r.CallsTotal, mebibytes(r.RSSBytes), mebibytes(r.PSSBytes))
	}
	return t.Flush()
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func mebibytes(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
