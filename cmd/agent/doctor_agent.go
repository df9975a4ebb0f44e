package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
)

// agentPatience is how long a running agent may take to tell its status.
const agentPatience = 2 * time.Second

// checkAgent asks the agent that runs, if one does, what holds there: a service has a cgroup and limits that this shell has not.
func checkAgent(g *global) []finding {
	ctx, cancel := context.WithTimeout(rootContext(), agentPatience)
	defer cancel()
	path, err := g.trustedSocket()
	if err != nil {
		return nil // the socket's own check says it
	}
	c, err := client.Dial(ctx, path)
	if err != nil {
		return nil
	}
	defer c.Close()
	s, err := statusOf(ctx, c)
	var refusal *client.AccessError
	if errors.As(err, &refusal) {
		return []finding{bad("access", refusal.Remedy(), "%v", refusal)}
	}
	if err != nil {
		return []finding{warn("agent", "see its log; `pitboss status` asks again", "it does not tell its status: %v", err)}
	}
	reason := ""
	if s.Agent.TierReason != "" {
		reason = " (no cgroup: " + s.Agent.TierReason + ")"
	}
	findings := []finding{ok("agent", "pid %d, tier %s%s", s.Agent.PID, s.Agent.Tier, reason)}
	if bound := boundLimits(s.Agent.Limits); bound != "" {
		findings = append(findings, ok("limits", "%s: each was broken on purpose when the agent started", bound))
	}
	if len(s.Agent.Lacks) > 0 {
		findings = append(findings, warn("agent", "run it on a newer kernel, or in a sandbox that passes this", "it does without: %s", strings.Join(s.Agent.Lacks, "; ")))
	}
	for _, p := range s.Pools {
		if p.Reason != "" {
			findings = append(findings, bad("pool", "mend it, then `pitboss restart --pool "+p.Name+"`", "%s is %s: %s", p.Name, p.State, firstLine(p.Reason)))
		}
		if len(p.LimitsVoid) > 0 {
			findings = append(findings, warn("limits", "run the agent as the service of its package on a host with cgroup v2, or remove them from the pool",
				"pool %s has limits that bind nobody: %s", p.Name, strings.Join(p.LimitsVoid, "; ")))
		}
	}
	return findings
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
