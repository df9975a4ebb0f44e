package main

import (
	"errors"
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
		return cfg, nil, &codeError{code: exitConfig, err: configError{err}, next: "`pitboss config defaults` shows every key"}
	}
	return cfg, origins, nil
}

// configError prints each fault as a line of its own.
type configError struct{ error }

func (e configError) Error() string { return strings.ReplaceAll(e.error.Error(), "\n", "\npitboss: ") }
func (e configError) Unwrap() error { return e.error }

func newConfigCommand(g *global) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "check or show a configuration, or the defaults", Args: cobra.ArbitraryArgs, RunE: namesACommand,
		Example: "  pitboss config defaults > pitboss.yaml\n  pitboss config check pitboss.yaml"}
	c.AddCommand(newConfigCheckCommand(g), newConfigShowCommand(g),
		&cobra.Command{Use: "defaults", Short: "print the commented defaults as YAML", Args: cobra.NoArgs,
			Example: "  pitboss config defaults > pitboss.yaml",
			RunE: func(*cobra.Command, []string) error {
				if g.json {
					cfg, pool := agent.Default(), agent.DefaultPool()
					pool.Name, pool.Adapter = "default", "tools.py" // an example, as in the YAML
					cfg.Pools = []agent.PoolConfig{pool}
					return printJSON(g.stdout, map[string]any{"schema": 1, "config": cfg.ShowTree()})
				}
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
			if err != nil && g.json {
				if err := printJSON(g.stdout, configVerdict{Schema: 1, Files: []string{}, Faults: faultsOf(err)}); err != nil {
					return err
				}
			}
			if err != nil {
				return err
			}
			files, err := agent.ConfigFiles(args[0])
			if err != nil {
				return fail(exitConfig, "", "%w", err)
			}
			if g.json {
				return printJSON(g.stdout, configVerdict{Schema: 1, OK: true, Files: files, Pools: len(cfg.Pools), Faults: []agent.Fault{}})
			}
			beside := ""
			if len(files) > 1 {
				beside = ", with " + strings.Join(files[1:], ", ")
			}
			fmt.Fprintf(g.stdout, "%s: ok, %s%s\n", args[0], counted(len(cfg.Pools), "pool"), beside)
			return nil
		}}
}

// configVerdict is what `config check --json` prints; with faults the files and the pools are not told.
type configVerdict struct {
	Schema int           `json:"schema"`
	OK     bool          `json:"ok"`
	Files  []string      `json:"files"`
	Pools  int           `json:"pools"`
	Faults []agent.Fault `json:"faults"`
}

// faultsOf are the faults in an error of loadConfig; a source that cannot be read at all is one without a place.
func faultsOf(err error) (faults []agent.Fault) {
	var whole configError
	if errors.As(err, &whole) {
		err = whole.error
	}
	all := []error{err}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		all = several.Unwrap()
	}
	for _, one := range all {
		var fault agent.Fault
		if !errors.As(one, &fault) {
			fault.Problem = one.Error()
		}
		faults = append(faults, fault)
	}
	return faults
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
