package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/client"
	"github.com/pitboss-run/pitboss/ipc"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// runFlags are what `run` can be told without a configuration.
type runFlags struct {
	python, start, watchdog, runtimeDir string
	workers                             int
	preload                             []string
	timeout, kill, drain                time.Duration
	dieWithParent, reload, debug        bool
}

func newRunCommand(g *global) *cobra.Command {
	f := &runFlags{}
	c := &cobra.Command{Use: "run ADAPTER [TOOL [ARGS]] | run ADAPTER -- CMD...",
		Short: "start a private agent for one call, one program, or until stopped",
		Long: `ADAPTER is a file, a module, or either with :Class. With a TOOL it is called once, with arguments as for pitboss call, and
then everything is gone. With a program after -- that program gets $PITBOSS_SOCKET, both end together, and the exit code is
the program's. With neither, the agent prints its socket and serves until it is stopped. No configuration is read.`,
		Example: `  pitboss run tools.py add a=1 b=2     one call, then everything is gone
  pitboss run tools.py                 serves, and prints its socket
  pitboss run tools.py -- ./server     a program beside the workers
  pitboss run --workers 4 --preload numpy my_app.tools:Model`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPrivate(g, f, cmd.Flags(), args, cmd.ArgsLenAtDash())
		}}
	pool := agent.DefaultPool()
	c.Flags().StringVar(&f.python, "python", "", "path or name of the `INTERPRETER` (default: $PITBOSS_PYTHON, $VIRTUAL_ENV, ./.venv, python3)")
	c.Flags().IntVar(&f.workers, "workers", 0, "start `N` workers (default: 1 for one call, else 2)")
	c.Flags().StringVar(&f.start, "start", pool.Start, "start workers by `METHOD`, fork or exec")
	c.Flags().StringSliceVar(&f.preload, "preload", nil, "`MODULES` that the launcher imports before it forks")
	c.Flags().DurationVar(&f.timeout, "timeout", pool.Timeouts.Call, "budget of a call")
	c.Flags().DurationVar(&f.kill, "kill-grace", pool.Timeouts.Kill, "time between TERM and KILL")
	c.Flags().DurationVar(&f.drain, "drain", pool.Timeouts.Drain, "how long running calls may go on at a stop")
	c.Flags().StringVar(&f.watchdog, "watchdog", "auto", "`MODE` auto, or off: tier group, without the guardian")
	c.Flags().BoolVar(&f.dieWithParent, "die-with-parent", false, "stop when the program that started this ends, and at the end of a pipe on standard input")
	c.Flags().BoolVar(&f.reload, "reload", false, "load the code anew when a Python file beside the adapter changes")
	c.Flags().BoolVar(&f.debug, "debug", false, "the agent's own log, in full")
	c.Flags().StringVar(&f.runtimeDir, "runtime-dir", "", "private `DIR` of this run")
	return c
}

// config is the configuration that the flags stand for.
func (f *runFlags) config(adapter string, oneCall bool) (agent.Config, error) {
	workdir, err := os.Getwd()
	if err != nil {
		return agent.Config{}, fail(exitInternal, "", "cannot find the working directory: %w", err)
	}
	cfg := agent.Default()
	cfg.Watchdog.Mode = f.watchdog
	p := agent.DefaultPool()
	p.Name, p.Adapter, p.Workdir, p.Python, p.Start, p.Preload = "default", absoluteAdapter(adapter, workdir), workdir, f.python, f.start, f.preload
	p.Timeouts.Call, p.Timeouts.Kill, p.Timeouts.Drain = f.timeout, f.kill, f.drain
	switch {
	case f.workers != 0:
		p.Workers = f.workers
	case oneCall:
		p.Workers = 1
	}
	if f.watchdog == "off" {
		p.Guard = "group"
	}
	cfg.Pools = []agent.PoolConfig{p}
	if err := cfg.Validate(); err != nil {
		return cfg, fail(exitConfig, "", "cannot run %q: %s", adapter, strings.ReplaceAll(strings.ReplaceAll(err.Error(), "pools[0].", ""), "\n", "\n  "))
	}
	return cfg, nil
}

func absoluteAdapter(adapter, workdir string) string {
	file, class := adapter, ""
	if i := strings.LastIndexByte(adapter, ':'); i > 0 && !strings.Contains(adapter[i:], "/") {
		file, class = adapter[:i], adapter[i:]
	}
	if strings.HasSuffix(file, ".py") && !filepath.IsAbs(file) {
		return filepath.Join(workdir, file) + class
	}
	return adapter
}

func runPrivate(g *global, f *runFlags, flags *pflag.FlagSet, args []string, dash int) error {
	var command []string
	if dash >= 0 {
		args, command = args[:dash], args[dash:]
	}
	switch {
	case len(args) == 0:
		return fail(exitUsage, "usage: pitboss run ADAPTER [TOOL [ARGS]]", "which adapter? Name a file such as tools.py, or a module")
	case dash >= 0 && (len(command) == 0 || len(args) > 1):
		return fail(exitUsage, "usage: pitboss run ADAPTER -- CMD...", "after -- goes a program, before it only the adapter")
	}
	if f.dieWithParent && f.watchdog == "off" {
		return needsWatchdog("--watchdog=off")
	}
	if f.reload && len(args) > 1 {
		return fail(exitUsage, "leave --reload or the tool away", "--reload is for a run that stays up, not for one call")
	}
	cfg, err := f.config(args[0], len(args) > 1)
	if err != nil {
		return err
	}
	fd, underGuard, err := agent.InheritedGuard()
	if err != nil {
		return fail(exitUsage, "", "%w", err)
	}
	p := place{runtimeDir: f.runtimeDir, socket: g.socket}
	if p.runtimeDir == "" {
		if p.runtimeDir, err = privateDir(); err != nil {
			return err
		}
		p.private = true // only what this run has made itself is removed at its end
	}
	if p, err = p.absolute(); err != nil {
		return err
	}
	if p.socket == "" {
		p.socket = filepath.Join(p.runtimeDir, "agent.sock")
	}
	if !underGuard && cfg.Watchdog.Mode != "off" {
		if f.dieWithParent {
			p.parent = os.Getppid()
		}
		err := underWatchdog(cfg, p, again(flags, p.runtimeDir, args, command))
		if p.private {
			_ = os.RemoveAll(p.runtimeDir)
		}
		return err
	}
	if p.private {
		defer os.RemoveAll(p.runtimeDir)
	}
	g.socket = p.socket // this run's own client calls there, and errors name it
	r := &privateRun{global: g, place: p, oneCall: len(args) > 1, debug: f.debug}
	if f.reload {
		if r.code, err = newCodeWatch(codeDir(cfg.Pools[0].Adapter, cfg.Pools[0].Workdir)); err != nil {
			return fail(exitUsage, "run it without --reload", "%w", err)
		}
		defer r.code.close()
	}
	if f.dieWithParent && !r.oneCall && len(command) == 0 { // a call and a program have their own use for standard input
		if r.caller, err = newEndOfInput(); err != nil {
			return fail(exitInternal, "", "cannot watch standard input: %w", err)
		}
	}
	return r.run(cfg, fd, args, command)
}

// again is the command line of this run once more, for the watchdog to start, in a directory that exists by now.
func again(flags *pflag.FlagSet, runtimeDir string, args, command []string) []string {
	line := []string{"run", "--runtime-dir=" + runtimeDir}
	flags.Visit(func(flag *pflag.Flag) {
		value := flag.Value.String()
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			value = strings.Join(list.GetSlice(), ",")
		}
		if flag.Name != "runtime-dir" {
			line = append(line, "--"+flag.Name+"="+value)
		}
	})
	line = append(line, args...)
	if len(command) > 0 {
		line = append(append(line, "--"), command...)
	}
	return line
}

// privateDir makes a directory for one run. It is new: nobody's files are in it.
func privateDir() (string, error) {
	id := make([]byte, 6)
	if _, err := rand.Read(id); err != nil {
		return "", fail(exitInternal, "", "cannot name a private directory: %w", err)
	}
	if err := makeDir(runtimeBase()); err != nil {
		return "", err
	}
	dir := filepath.Join(runtimeBase(), "run-"+hex.EncodeToString(id))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fail(exitPermission, "name another place with --runtime-dir", "cannot create a private directory: %w", err)
	}
	return dir, nil
}

// privateRun is one private agent of `run`.
type privateRun struct {
	*global
	place   place
	oneCall bool
	debug   bool
	code    *codeWatch  // nil when nobody asked to reload
	caller  *endOfInput // nil when nobody's end is waited for
	agent   *agent.Agent
}

func (r *privateRun) run(cfg agent.Config, fd int, args, command []string) error {
	level := "error" // what becomes of one call is told at its end
	switch {
	case r.oneCall:
	case len(command) > 0:
		level = "warn"
	default:
		level = "info"
	}
	if r.debug {
		level = "debug"
	}
	log, out := agent.NewLog(agent.LogConfig{Level: level, Format: "text"})
	r.stderr = agent.PatientStderr()
	defer out.Close()
	a, err := newAgent(agent.Options{Config: cfg, Socket: r.place.socket, RuntimeDir: r.place.runtimeDir, LibraryDir: runtimeBase(), Version: ipc.Version, GuardFD: fd,
		Log: log, LogWriter: out, Output: func(_, process, _ string, _ uint64, line string) { out.Line("[" + process + "] " + line) }})
	if err != nil {
		return err
	}
	r.agent = a
	ctx, interrupt := context.WithCancel(rootContext())
	defer interrupt()
	var wg sync.WaitGroup
	var runErr error
	done, ended := make(chan struct{}), make(chan struct{})
	wg.Go(func() { handleSignals(a, out, done) })
	wg.Go(func() { runErr = a.Run(rootContext()); close(ended); interrupt() })
	if r.caller != nil {
		wg.Go(func() {
			if r.caller.wait() {
				a.Stop("the program that started this run has ended")
			}
		})
	}
	if r.code != nil {
		wg.Go(func() { r.followCode(ctx, r.code) })
	}
	err = r.serve(ctx, args, command, ended)
	interrupt()
	a.Stop("the run is over")
	<-ended
	close(done)
	if r.caller != nil {
		r.caller.stop()
	}
	wg.Wait()
	if runErr != nil { // it could not even begin; that the call was cut off is only what came of it
		return fail(exitUnavailable, "", "%w", runErr)
	}
	return err
}

// serve is what the private agent is for: a call, a program, or to be there.
func (r *privateRun) serve(ctx context.Context, args, command []string, ended <-chan struct{}) error {
	for err := r.agent.WaitReady(ctx); err != nil; err = r.agent.WaitReady(ctx) {
		select {
		case <-r.agent.Draining(): // the pool may say so before ctx does
			return &codeError{code: exitInterrupted}
		default:
		}
		if r.code == nil {
			return err
		}
		report(r.stderr, err)
		fmt.Fprintf(r.stderr, "[reload] waiting for a change below %s\n", r.code.dir)
		select {
		case <-r.code.loaded:
		case <-r.agent.Draining():
			return &codeError{code: exitInterrupted}
		}
	}
	switch {
	case len(command) > 0:
		return r.sidecar(command, ended)
	case r.oneCall:
		c, err := client.Dial(ctx, r.place.socket)
		if err != nil {
			return fail(exitInternal, "", "%w", err)
		}
		defer c.Close()
		return r.hinted(args[0], callTool(ctx, r.global, c, callFlags{}, args[1], args[2:]))
	}
	if r.json {
		err := printJSON(r.stdout, map[string]string{"socket": r.place.socket})
		if err != nil {
			return err
		}
	} else {
		fmt.Fprintf(r.stdout, "socket: %s\n", r.place.socket)
		if file, ok := r.screenFile(); ok && term.IsTerminal(int(file.Fd())) {
			fmt.Fprintf(r.stdout, "call it from another terminal: pitboss --socket %s call TOOL\n", r.place.socket)
		}
	}
	<-ended
	return nil
}

// hinted says how to look at the tools of an adapter whose agent is gone when the error is read.
func (r *privateRun) hinted(adapter string, err error) error {
	if errors.Is(err, client.BadArguments) || errors.Is(err, client.UnknownTool) {
		return &hintedError{err, fmt.Sprintf("`pitboss run %s -- pitboss tools --schema` shows the tools and what they take", adapter)}
	}
	return err
}

func rootContext() context.Context { return context.Background() }
