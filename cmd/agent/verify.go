package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/chaos"
	"github.com/pitboss-run/pitboss/ipc"
	"github.com/spf13/cobra"
)

// verifyFlags are what `verify` can be told.
type verifyFlags struct {
	long, list, verbose bool
	wholeHost           bool
	only                []string
	rounds              int
	soak                time.Duration
	seed                uint64
	python, out         string
	heading             sync.Once // of the matrix
}

func newVerifyCommand(g *global) *cobra.Command {
	f := verifyFlags{}
	c := &cobra.Command{Use: "verify [--long]", Short: "kill private agents in every known way here, count what survives", Args: cobra.NoArgs,
		Long: `Private agents are started in a temporary directory and harmed in every way of the catalogue: each part killed in each phase,
stopped, frozen, starved, out of resources. After each round the operating system, not pitboss, says who is left. Nothing that
verify has not started is touched, an agent that serves on this host least of all.

First comes a control: the same worker without pitboss, which must leak. If nothing is seen to leak there, the count is blind here,
and verify fails. A row that this host cannot run says what it needs; docs/guarantees.md tells how to read the matrix.`,
		Example: "  pitboss verify\n  pitboss verify --soak 1h\n  pitboss verify --only kill-agent-idle --rounds 20\n  pitboss verify --long --out verify.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.verify(cmd, g)
		}}
	c.Flags().BoolVar(&f.long, "long", false, "make more than 1 000 kills and run every slow row: about an hour")
	c.Flags().DurationVar(&f.soak, "soak", 0, "for so `LONG`, such as 1h, load everything and count kills that should not be; nothing else is run")
	c.Flags().BoolVar(&f.list, "list", false, "name the scenarios, run none")
	c.Flags().BoolVar(&f.wholeHost, "whole-host", false, "run also what harms the whole host: its clock, its table of files; on a machine of your own")
	c.Flags().StringSliceVar(&f.only, "only", nil, "run these `SCENARIOS`, separated by commas")
	c.Flags().IntVar(&f.rounds, "rounds", 0, "run each scenario so `MANY` times (default: as the scenario says)")
	c.Flags().Uint64Var(&f.seed, "seed", 0, "`NUMBER` of an earlier run, for the same random moments")
	c.Flags().StringVar(&f.python, "python", "", "`PATH` of the interpreter (default: $PITBOSS_PYTHON, $VIRTUAL_ENV, ./.venv, python3)")
	c.Flags().StringVar(&f.out, "out", "", "write the report, as --json prints it, to `FILE`")
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "show what each row measured beside, and failures in full")
	return c
}

func (f *verifyFlags) verify(cmd *cobra.Command, g *global) error {
	if f.rounds < 0 || f.rounds > 100_000 {
		return fail(exitUsage, "--rounds is 1 to 100 000", "cannot run each scenario %d times", f.rounds)
	}
	if f.soak != 0 && f.soak < time.Minute {
		return fail(exitUsage, "--soak is 1m or longer", "cannot soak for %s", f.soak)
	}
	if f.list {
		return f.print(g)
	}
	host, err := f.host()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if f.soak != 0 {
		return f.soakFor(ctx, g, host)
	}
	o := chaos.VerifyOptions{Host: host, Long: f.long, Only: f.only, Rounds: f.rounds, Seed: f.seed, Version: ipc.Version}
	if !g.json {
		o.Done = func(r *chaos.Row) { f.show(g, r) }
	}
	rep, err := chaos.Verify(ctx, o)
	var unknown *chaos.UnknownScenarioError
	switch {
	case errors.As(err, &unknown):
		return fail(exitUsage, nearScenario(unknown.Name)+"`pitboss verify --list` names them", "%w", err)
	case err != nil:
		return fail(exitFailed, "", "cannot verify: %w", err)
	}
	if err := f.keep(rep); err != nil {
		return err
	}
	if g.json {
		err = printJSON(g.stdout, rep)
	} else {
		fmt.Fprintln(g.stdout, rep.Total())
	}
	switch {
	case rep.Interrupted:
		return &codeError{code: exitInterrupted}
	case err != nil:
		return err
	case rep.Rows[0].Result != chaos.Pass:
		return fail(exitFailed, "`pitboss verify -v` shows it in full; /proc must be readable", "the control did not leak as it must: this host cannot be verified")
	case !rep.OK:
		return fail(exitFailed, "`pitboss verify -v --only NAME` shows one in full", "%s failed", counted(rep.Summary.Failed, "row"))
	}
	return nil
}

// soakFor runs the load that must kill nobody.
func (f *verifyFlags) soakFor(ctx context.Context, g *global, host *chaos.Host) error {
	rep := chaos.Soak(ctx, chaos.SoakOptions{Host: host, Duration: f.soak}, func(line string) {
		if !g.json {
			fmt.Fprintln(g.stdout, line)
		}
	})
	if err := f.keep(rep); err != nil {
		return err
	}
	if g.json {
		if err := printJSON(g.stdout, rep); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(g.stdout, rep.String())
	}
	switch {
	case rep.Interrupted:
		return &codeError{code: exitInterrupted}
	case !rep.OK:
		return fail(exitFailed, "", "the soak failed: %s", strings.Join(rep.Failures, "; "))
	}
	return nil
}

// host is this one, with our own binary and an interpreter that is there.
func (f *verifyFlags) host() (*chaos.Host, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fail(exitInternal, "", "cannot find our own binary: %w", err)
	}
	if _, err := watchdogPath(self); err != nil {
		return nil, err
	}
	workdir, err := os.Getwd()
	if err != nil {
		return nil, fail(exitInternal, "", "cannot find the working directory: %w", err)
	}
	path, _, err := agent.FindPython(f.python, workdir, os.Getenv)
	if err != nil {
		return nil, fail(exitUsage, "", "%w", err)
	}
	h, err := chaos.NewHost(self, path)
	if err != nil {
		return nil, fail(exitUsage, "name another with --python", "%w", err)
	}
	h.Own = f.wholeHost
	return h, nil
}

// keep writes the report.
func (f *verifyFlags) keep(rep any) error {
	if f.out == "" {
		return nil
	}
	text, err := json.MarshalIndent(rep, "", " ")
	if err == nil {
		err = os.WriteFile(f.out, append(text, '\n'), 0o644)
	}
	if err != nil {
		return fail(exitFailed, "", "cannot keep the report: %w", err)
	}
	return nil
}

// show prints a row as soon as it is done.
func (f *verifyFlags) show(g *global, r *chaos.Row) {
	f.heading.Do(func() { fmt.Fprintln(g.stdout, chaos.Heading) })
	fmt.Fprintln(g.stdout, r)
	if !f.verbose {
		return
	}
	for _, text := range append(append([]string{}, r.Failures...), r.Notes...) {
		for line := range strings.Lines(text) {
			fmt.Fprintf(g.stdout, "    %s\n", strings.TrimRight(line, "\n"))
		}
	}
}

// print lists the catalogue.
func (f *verifyFlags) print(g *global) error {
	type entry struct {
		Scenario string `json:"scenario"`
		What     string `json:"what"`
		Expect   string `json:"expect,omitempty"`
		Beyond   string `json:"out_of_contract,omitempty"`
		Rounds   int    `json:"rounds"`
		Long     int    `json:"rounds_long"`
	}
	var all []entry
	for _, s := range chaos.Catalogue() {
		all = append(all, entry{s.Name, s.What, s.Expect, s.Beyond, s.Rounds, max(s.Long, s.Rounds)})
	}
	if g.json {
		return printJSON(g.stdout, all)
	}
	for _, e := range all {
		fmt.Fprintf(g.stdout, "%-45s  %s\n", e.Scenario, e.What)
	}
	return nil
}

func nearScenario(name string) string {
	var names []string
	for _, s := range chaos.Catalogue() {
		names = append(names, s.Name)
	}
	if near := agent.NearName(name, names); near != "" {
		return "did you mean " + near + "? "
	}
	return ""
}
