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
	var dieWithParent bool
	c := &cobra.Command{Use: "agent [--config FILE]", Short: "run the agent in the foreground, under the watchdog", Args: cobra.NoArgs,
		Long: `The agent starts the pools of its configuration, serves them on its socket and writes its log to standard error. The
watchdog is its parent: however the agent dies, every process that it has started ends too.

INT and TERM drain and stop it, and a second one kills what still runs. HUP reloads the configuration. QUIT writes the stacks
of all goroutines to standard error.`,
		Example: "  pitboss agent\n  pitboss agent --config pitboss.yaml\n  pitboss agent --config gpu.yaml --instance gpu",
		RunE: func(*cobra.Command, []string) error {
			return serve(g, config, runtimeDir, dieWithParent)
		}}
	c.Flags().StringVar(&config, "config", "", "configuration `FILE` (default /etc/pitboss/pitboss.yaml)")
	c.Flags().StringVar(&runtimeDir, "runtime-dir", "", "keep lock and certificate in `DIR` (default: by user and instance)")
	c.Flags().BoolVar(&dieWithParent, "die-with-parent", false, "stop when the program that started this ends")
	return c
}

func serve(g *global, config, runtimeDir string, dieWithParent bool) error {
	file, err := configFile(config)
	if err != nil {
		return err
	}
	cfg, _, err := loadConfig(file)
	if err != nil {
		return err
	}
	p := place{runtimeDir: runtimeDir, socket: g.socket}
	library := runtimeBase()
	if own := serviceDir(); p.runtimeDir == "" && own != "" {
		p.runtimeDir, library = own, own
	} else if p.runtimeDir == "" {
		p.runtimeDir = filepath.Join(library, g.instance)
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
	if dieWithParent && cfg.Watchdog.Mode == "off" {
		return needsWatchdog("watchdog.mode: off")
	}
	if !supervised && cfg.Watchdog.Mode != "off" {
		if dieWithParent {
			p.parent = os.Getppid()
		}
		unread, err := checkDeadlines(cfg, os.Getpid()) // the watchdog takes this process over
		if unread != nil {
			fmt.Fprintln(g.stderr, "pitboss:", unread)
		}
		if err != nil {
			return err
		}
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
	if len(listeners) > 0 {
		p.socket = listeners[0].Addr().String()
	} else if base := runtimeBase(); filepath.Dir(p.socket) == base {
		if err := makeDir(base); err != nil {
			return err
		}
	}
	a, err := newAgent(agent.Options{Config: cfg, ConfigPath: file, Socket: p.socket, RuntimeDir: p.runtimeDir, LibraryDir: library, Version: ipc.Version,
		GuardFD: fd, CgroupDir: os.Getenv(agent.CgroupDirEnv), CgroupRefused: os.Getenv(agent.CgroupRefusedEnv), Listeners: listeners, Log: log, LogWriter: out,
		Reload: func() (agent.Config, error) {
			cfg, _, err := agent.LoadAll(file, os.Environ())
			if err == nil {
				_, err = checkDeadlines(cfg, os.Getppid())
			}
			if err == nil {
				aimForMemory(cfg)
			}
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

// serviceDir is the directory that a service manager has made for this service alone (RuntimeDirectory= of systemd.exec(5)); empty
// without one.
func serviceDir() string {
	first, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	return first
}

// counted is "1 pool", "2 pools".
func counted(n int, noun string) string { return plural(n, noun, noun+"s") }

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
