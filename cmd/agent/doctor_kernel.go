package main

import (
	"strings"

	"github.com/pitboss-run/pitboss/agent"
)

// needKernel refuses to start where nothing would work, and names what is missing.
func needKernel() error {
	if err := agent.CheckKernel(); err != nil {
		return fail(exitConfig, "`pitboss doctor` tries everything that this host should have", "%w", err)
	}
	return nil
}

// checkKernel tries every feature: a line for what is there, one for each that is not.
func checkKernel(features []agent.KernelFeature) (findings []finding) {
	var there []string
	for _, f := range features {
		err := f.Try()
		switch {
		case err == nil:
			there = append(there, f.Name)
		case f.Required():
			findings = append(findings, bad("kernel", f.Fix, "no %s (Linux %s): %v", f.Name, f.Since, err))
		default:
			findings = append(findings, warn("kernel", "none needed; Linux "+f.Since+" brings it", "no %s: %v; %s", f.Name, err, f.Without))
		}
	}
	if len(there) > 0 {
		findings = append([]finding{ok("kernel", "%s", strings.Join(there, ", "))}, findings...)
	}
	return findings
}

// checkTier says which kill tier an agent would have here, and why.
func checkTier(cfg agent.Config, watchdog finding, kernel []finding) finding {
	for _, k := range kernel {
		if k.Grade == gradeFail {
			return bad("tier", "see kernel", "none: %s", k.Detail)
		}
	}
	switch {
	case cfg.Watchdog.Mode == "off":
		return warn("tier", "set watchdog.mode: auto", "group: watchdog.mode is off; a SIGKILL of the agent leaves clean-up to the keepers alone")
	case watchdog.Grade == gradeFail:
		return bad("tier", "see watchdog", "none: the agent does not start without its watchdog unless watchdog.mode is off")
	}
	return ok("tier", "tree: watchdog above the agent, a keeper above each worker; cgroup too where a service manager delegates one")
}
