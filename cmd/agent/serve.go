package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

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
	cfg, err := loadConfig(file)
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
	log := newLog(cfg.Log)
	if !supervised {
		log.Warn("running without a watchdog: tier group; a SIGKILL of the agent leaves clean-up to the keepers alone")
	}
	listeners, err := agent.InheritedListeners(os.Getenv)
	if err != nil {
		return fail(exitConfig, "", "%w", err)
	}
	a, err := newAgent(agent.Options{Config: cfg, ConfigPath: file, Socket: p.socket, RuntimeDir: p.runtimeDir, LibraryDir: runtimeBase(), Version: ipc.Version,
		GuardFD: fd, Listeners: listeners, Log: log,
		Reload: func() (agent.Config, error) { return agent.Load(file) }})
	if err == nil {
		err = openPlace(cfg, p.socket)
	}
	if err != nil {
		return err
	}
	done := make(chan struct{})
	signals := make(chan struct{})
	go func() { defer close(signals); handleSignals(a, log, done) }()
	err = a.Run(rootContext())
	close(done)
	<-signals
	if err != nil {
		return fail(exitUnavailable, "", "%w", err)
	}
	return nil
}

// loadConfig reads and checks; every fault is printed on its own line.
func loadConfig(file string) (agent.Config, error) {
	cfg, err := agent.Load(file)
	if err != nil {
		return cfg, fail(exitConfig, "`pitboss config defaults` shows every key", "%s", strings.ReplaceAll(err.Error(), "\n", "\npitboss: "))
	}
	return cfg, nil
}

func newConfigCommand(g *global) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "check a configuration or show the defaults", Args: cobra.ArbitraryArgs, RunE: namesACommand}
	c.AddCommand(
		&cobra.Command{Use: "check FILE", Short: "say ok, or every fault with its line", Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error {
				cfg, err := loadConfig(args[0])
				if err == nil {
					fmt.Fprintf(g.stdout, "%s: ok, %s\n", args[0], counted(len(cfg.Pools), "pool"))
				}
				return err
			}},
		&cobra.Command{Use: "defaults", Short: "print the commented defaults as YAML", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := fmt.Fprint(g.stdout, agent.DefaultsYAML())
				return err
			}})
	return c
}

// counted is "1 pool", "2 pools".
func counted(n int, noun string) string { return plural(n, noun, noun+"s") }

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
