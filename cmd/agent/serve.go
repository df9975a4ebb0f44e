package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/ipc"
	"github.com/spf13/cobra"
)

func newAgentCommand(g *global) *cobra.Command {
	var config, runtimeDir string
	c := &cobra.Command{Use: "agent [--config FILE]", Short: "run the agent in the foreground, under the watchdog", Args: cobra.NoArgs,
		Long: `The agent starts the pools of its configuration, serves them on its socket and writes its log to standard error. The
watchdog is its parent: however the agent dies, every process that it has started ends too.

INT and TERM drain and stop it, and a second one kills what still runs. HUP reloads the configuration. QUIT writes the stacks
of all goroutines to standard error.`,
		Example: "  pitboss agent\n  pitboss agent --config pitboss.yaml\n  pitboss agent --config gpu.yaml --instance gpu",
		RunE: func(*cobra.Command, []string) error {
			return serve(g, config, runtimeDir)
		}}
	c.Flags().StringVar(&config, "config", "", "configuration `FILE` (default /etc/pitboss/pitboss.yaml)")
	c.Flags().StringVar(&runtimeDir, "runtime-dir", "", "keep lock and certificate in `DIR` (default: by user and instance)")
	return c
}

func serve(g *global, config, runtimeDir string) error {
	file, err := configFile(config)
	if err != nil {
		return err
	}
	cfg, _, err := loadConfig(file)
	if err != nil {
		return err
	}
	p := place{runtimeDir: runtimeDir, socket: g.socket}
	if p.runtimeDir == "" {
		p.runtimeDir = filepath.Join(runtimeBase(), g.instance)
	}
	if p.socket == "" {
		p.socket = defaultSocket(g.instance)
	}
	if p, err = p.absolute(); err != nil {
		return err
	}
	fd, supervised, err := agent.InheritedGuard()
	if err != nil {
		return fail(exitUsage, "", "%w", err)
	}
	if !supervised && cfg.Watchdog.Mode != "off" {
		return underWatchdog(cfg, p, os.Args[1:])
	}
	log, out := agent.NewLog(cfg.Log)
	g.stderr = agent.PatientStderr()
	defer out.Close()
	if !supervised {
		log.Warn("running without a watchdog: tier group; a SIGKILL of the agent leaves clean-up to the keepers alone")
	}
	listeners, err := agent.InheritedListeners(os.Getenv)
	if err != nil {
		return fail(exitConfig, "", "%w", err)
	}
	a, err := newAgent(agent.Options{Config: cfg, ConfigPath: file, Socket: p.socket, RuntimeDir: p.runtimeDir, LibraryDir: runtimeBase(), Version: ipc.Version,
		GuardFD: fd, Listeners: listeners, Log: log, LogWriter: out,
		Reload: func() (agent.Config, error) {
			cfg, _, err := agent.LoadAll(file, os.Environ())
			return cfg, err
		},
		OpenPlace: func(cfg agent.Config) error { return openPlace(cfg, p.socket) }})
	if err == nil {
		err = openPlace(cfg, p.socket)
	}
	if err != nil {
		return err
	}
	done := make(chan struct{})
	signals := make(chan struct{})
	go func() { defer close(signals); handleSignals(a, out, done) }()
	err = a.Run(rootContext())
	close(done)
	<-signals
	if err != nil {
		return fail(exitUnavailable, "", "%w", err)
	}
	return nil
}

// counted is "1 pool", "2 pools".
func counted(n int, noun string) string { return plural(n, noun, noun+"s") }

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
