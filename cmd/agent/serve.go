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
		Example: "  pitboss agent --config pitboss.yaml",
		RunE: func(*cobra.Command, []string) error {
			return serve(g, config, runtimeDir)
		}}
	c.Flags().StringVar(&config, "config", "", "configuration file (default /etc/pitboss/pitboss.yaml)")
	c.Flags().StringVar(&runtimeDir, "runtime-dir", "", "where the agent keeps lock and certificate (default: by user and instance)")
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
	log := g.openLog(cfg.Log)
	if !supervised {
		log.Warn("running without a watchdog: tier group; a SIGKILL of the agent leaves clean-up to the keepers alone")
	}
	listeners, err := agent.InheritedListeners(os.Getenv)
	if err != nil {
		return fail(exitConfig, "", "%w", err)
	}
	a, err := g.newAgent(agent.Options{Config: cfg, ConfigPath: file, Socket: p.socket, RuntimeDir: p.runtimeDir, LibraryDir: runtimeBase(), Version: ipc.Version,
		GuardFD: fd, Listeners: listeners, Log: log,
		Reload: func() (agent.Config, error) {
			cfg, _, err := agent.LoadAll(file, os.Environ())
			return cfg, err
		}})
	if err == nil {
		err = openPlace(cfg, p.socket)
	}
	if err != nil {
		return err
	}
	done := make(chan struct{})
	signals := make(chan struct{})
	go func() { defer close(signals); handleSignals(a, g.log, done) }()
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
