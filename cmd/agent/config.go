package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/spf13/cobra"
)

// loadConfig reads and checks file, conf.d and environment; every fault is printed on its own line.
func loadConfig(file string) (agent.Config, agent.Origins, error) {
	cfg, origins, err := agent.LoadAll(file, os.Environ())
	if err != nil {
		return cfg, nil, fail(exitConfig, "`pitboss config defaults` shows every key", "%s", strings.ReplaceAll(err.Error(), "\n", "\npitboss: "))
	}
	return cfg, origins, nil
}

func newConfigCommand(g *global) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "check or show a configuration, or the defaults", Args: cobra.ArbitraryArgs, RunE: namesACommand,
		Example: "  pitboss config defaults > pitboss.yaml\n  pitboss config check pitboss.yaml"}
	c.AddCommand(newConfigCheckCommand(g), newConfigShowCommand(g),
		&cobra.Command{Use: "defaults", Short: "print the commented defaults as YAML", Args: cobra.NoArgs,
			Example: "  pitboss config defaults > pitboss.yaml",
			RunE: func(*cobra.Command, []string) error {
				_, err := fmt.Fprint(g.stdout, agent.DefaultsYAML())
				return err
			}})
	return c
}

func newConfigCheckCommand(g *global) *cobra.Command {
	return &cobra.Command{Use: "check FILE", Short: "print ok, or every fault with its line", Args: cobra.ExactArgs(1),
		Long:    "What an agent would read is checked: FILE, conf.d/*.yaml beside it, and the PITBOSS_… variables of this shell.",
		Example: "  pitboss config check /etc/pitboss/pitboss.yaml",
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, _, err := loadConfig(args[0])
			if err != nil {
				return err
			}
			files, err := agent.ConfigFiles(args[0])
			if err != nil {
				return fail(exitConfig, "", "%w", err)
			}
			beside := ""
			if len(files) > 1 {
				beside = ", with " + strings.Join(files[1:], ", ")
			}
			fmt.Fprintf(g.stdout, "%s: ok, %s%s\n", args[0], counted(len(cfg.Pools), "pool"), beside)
			return nil
		}}
}

func newConfigShowCommand(g *global) *cobra.Command {
	var config string
	var showEnv bool
	c := &cobra.Command{Use: "show [--config FILE]", Short: "print the effective values and where each came from", Args: cobra.NoArgs,
		Long:    "They are what an agent would use that was started here and now: of FILE, conf.d/*.yaml beside it, and the PITBOSS_… variables\nof this shell.",
		Example: "  pitboss config show\n  pitboss config show --config pitboss.yaml --show-env",
		RunE: func(*cobra.Command, []string) error {
			file, err := configFile(config)
			if err != nil {
				return err
			}
			cfg, origins, err := loadConfig(file)
			if err != nil {
				return err
			}
			if !showEnv {
				cfg = cfg.WithoutSecrets()
			}
			if g.json {
				return printJSON(g.stdout, map[string]any{"schema": 1, "config": cfg.ShowTree(), "origins": origins})
			}
			_, err = fmt.Fprint(g.stdout, cfg.ShowYAML(origins))
			return err
		}}
	c.Flags().StringVar(&config, "config", "", "configuration `FILE` (default /etc/pitboss/pitboss.yaml)")
	c.Flags().BoolVar(&showEnv, "show-env", false, "with the values of the pools' env, which may be secrets")
	return c
}
