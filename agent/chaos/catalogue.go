package chaos

import (
	"fmt"
	"strings"
)

// Catalogue lists every scenario, in the order in which verify shows them.
func Catalogue() []Scenario {
	var all []Scenario
	for _, part := range [][]Scenario{
		killScenarios(),
		serviceScenarios(),
		stopScenarios(),
		livingScenarios(),
		statusScenarios(),
		bombScenarios(),
		launcherScenarios(),
		identityScenarios(),
		credentialScenarios(),
		hostScenarios(),
		releaseScenarios(),
		thousandScenarios(),
		faultScenarios(),
		verdictScenarios(),
		wholeHostScenarios(),
		unkillableScenarios(),
		beyondScenarios(),
	} {
		all = append(all, part...)
	}
	return all
}

// beyondScenarios are out of contract: the process is not a descendant of the worker, and nobody's parentage leads to it.
func beyondScenarios() []Scenario {
	const asks = "another program starts it and is its parent; "
	return []Scenario{
		{Name: "at-and-cron", What: "a tool hands a job to at(1) or writes a crontab", Beyond: asks + "remove the job with at's or cron's own commands"},
		{Name: "systemd-run", What: "a tool starts a unit with systemd-run", Beyond: asks + "bind it with --property=BindsTo= and After= to the agent's unit"},
		{Name: "container-daemon", What: "a tool starts a container by the Docker or containerd daemon", Beyond: asks + "use --rm and stop it in teardown(), or run it as a child (podman run, with --cgroups=disabled)"},
	}
}

// Markdown is the catalogue as docs/verify.md shows it.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| row | what is done | what has to hold | rounds, with `--long` |\n|---|---|---|---|\n")
	var beyond []Scenario
	for _, s := range Catalogue() {
		if s.Beyond != "" {
			beyond = append(beyond, s)
			continue
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %d, %d |\n", s.Name, s.What, s.Expect, s.Rounds, s.rounds(true))
	}
	b.WriteString("\nOut of contract, because no parentage leads to the process:\n\n| row | what is done | why, and what to do |\n|---|---|---|\n")
	for _, s := range beyond {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s.Name, s.What, s.Beyond)
	}
	return b.String()
}
