package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/spf13/cobra"
)

// grade is how a check has ended: only FAIL keeps an agent from working.
type grade string

const (
	gradeOK   grade = "ok"
	gradeWarn grade = "warn"
	gradeFail grade = "FAIL"
)

// finding is the result of one check. Fix is set unless it is ok; Output is what a child said, such as a traceback.
type finding struct {
	Check  string `json:"check"`
	Grade  grade  `json:"grade"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
	Output string `json:"output,omitempty"`
}

func ok(check, format string, args ...any) finding {
	return finding{Check: check, Grade: gradeOK, Detail: fmt.Sprintf(format, args...)}
}

func warn(check, fix, format string, args ...any) finding {
	return finding{Check: check, Grade: gradeWarn, Detail: fmt.Sprintf(format, args...), Fix: fix}
}

func bad(check, fix, format string, args ...any) finding {
	return finding{Check: check, Grade: gradeFail, Detail: fmt.Sprintf(format, args...), Fix: fix}
}

// doctorFlags are what `doctor` can be told.
type doctorFlags struct {
	config, python string
	timeout        time.Duration
}

func newDoctorCommand(g *global) *cobra.Command {
	var f doctorFlags
	c := &cobra.Command{Use: "doctor [ADAPTER]", Short: "check what an agent needs on this host, and how to mend it",
		Long: `Interpreter, Python package, adapter, socket, kill tier, kernel, watchdog, configuration, clock, disk and limits have one
line each with ok, warn or FAIL, and the fix. Kernel features are tried, not guessed from a version. Nothing is changed but
the agent's own runtime directory, which is made if it is not there.`,
		Example: "  pitboss doctor\n  pitboss doctor tools.py\n  pitboss doctor --config pitboss.yaml --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			adapter := ""
			if len(args) > 0 {
				adapter = args[0]
			}
			return examine(g, f, adapter)
		}}
	c.Flags().StringVar(&f.config, "config", "", "configuration `FILE` (default /etc/pitboss/pitboss.yaml if there is one)")
	c.Flags().StringVar(&f.python, "python", "", "path or name of the `INTERPRETER`, as for run")
	c.Flags().DurationVar(&f.timeout, "timeout", 30*time.Second, "how long the interpreter and each adapter may take")
	return c
}

// patient is one interpreter with the adapters that run on it.
type patient struct{ pool, adapter, workdir, python string }

// examine runs every check; a check that fails stops none that does not depend on it.
func examine(g *global, f doctorFlags, adapter string) error {
	workdir, err := os.Getwd()
	if err != nil {
		return fail(exitInternal, "", "cannot find the working directory: %w", err)
	}
	if f.timeout <= 0 {
		return fail(exitUsage, "", "--timeout must be above 0, not %s", f.timeout)
	}
	cfg, config := checkConfiguration(f.config)
	findings := []finding{config}
	patients := []patient{}
	for _, p := range cfg.Pools {
		patients = append(patients, patient{p.Name, p.Adapter, p.Workdir, p.Python})
	}
	if adapter != "" || len(patients) == 0 {
		patients = append(patients, patient{adapter: absoluteAdapter(adapter, workdir), workdir: workdir})
	}
	room := checkRuntimeDir()
	findings = append(findings, room)
	if room.Grade == gradeFail {
		findings = append(findings, bad("python", "mend the runtime directory first", "not checked: the Python package goes there"))
	} else {
		findings = append(findings, checkPythons(patients, f)...)
	}
	findings = append(findings, checkSocket(g.socketPath()))
	findings = append(findings, checkAgent(g)...)
	watchdog := checkWatchdog(cfg.Watchdog.Mode, f.timeout)
	kernel := checkKernel(agent.KernelFeatures())
	findings = append(findings, watchdog)
	findings = append(findings, kernel...)
	findings = append(findings, checkTier(cfg, watchdog, kernel))
	findings = append(findings, checkHost(thisHost(), cfg)...)
	return reportFindings(g, findings)
}

func checkConfiguration(flag string) (agent.Config, finding) {
	file, err := configFile(flag)
	if err != nil {
		return agent.Default(), ok("config", "none; `pitboss run ADAPTER` needs none")
	}
	cfg, _, err := agent.LoadAll(file, os.Environ())
	if err != nil {
		f := bad("config", "mend the lines above; `pitboss config defaults` shows every key", "%s is not valid", file)
		f.Output = err.Error()
		return agent.Default(), f
	}
	return cfg, ok("config", "%s, %s", file, counted(len(cfg.Pools), "pool"))
}

// reportFindings prints them and fails if one of them does.
func reportFindings(g *global, findings []finding) error {
	failed, warned := 0, 0
	for _, f := range findings {
		switch f.Grade {
		case gradeFail:
			failed++
		case gradeWarn:
			warned++
		}
	}
	if g.json {
		if err := printJSON(g.stdout, map[string]any{"schema": 1, "ok": failed == 0, "findings": findings}); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			fmt.Fprintf(g.stdout, "%-4s  %-11s  %s\n", f.Grade, f.Check, f.Detail)
			for line := range strings.Lines(strings.TrimSpace(f.Output)) {
				fmt.Fprintf(g.stdout, "      | %s\n", strings.TrimRight(line, "\n"))
			}
			if f.Fix != "" {
				fmt.Fprintf(g.stdout, "      fix: %s\n", f.Fix)
			}
		}
	}
	if failed > 0 {
		return fail(exitFailed, "", "%s of %d failed, %s", counted(failed, "check"), len(findings), counted(warned, "warning"))
	}
	return nil
}
