//go:build booted

package booted

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// TestPitbossVerify: the installed binary proves itself on a booted host with cgroup v2 alone, beside the service, which does not
// notice: the same processes serve afterwards.
func TestPitbossVerify(t *testing.T) {
	before := serving(t)
	main := mainPID(t)
	var stderr strings.Builder
	c := exec.Command("pitboss", "verify", "--json", "--python", share+"/venv/bin/python")
	c.Stderr = &stderr
	out, err := c.Output()
	var report struct {
		OK      bool
		Summary struct {
			Passed, Failed, Runs, Survivors, Innocents int
			FalseKills                                 int `json:"false_kills"`
		}
		Rows []struct {
			Scenario, Tier, Result, Reason string
			Failures                       []string
		}
	}
	if json.Unmarshal(out, &report) != nil {
		t.Fatalf("%v: %s%s", err, out, stderr.String())
	}
	delegated := 0
	for _, r := range report.Rows {
		if r.Result == "FAIL" {
			t.Errorf("%s: %s", r.Scenario, strings.Join(r.Failures, "\n"))
		}
		if r.Result == "pass" && r.Tier == "cgroup" {
			delegated++
		}
		if r.Result == "cannot run" {
			t.Logf("%s: %s", r.Scenario, r.Reason)
		}
	}
	if err != nil || !report.OK || report.Summary.Passed < 30 || delegated == 0 {
		t.Errorf("%v: %+v, %d rows in tier cgroup%s", err, report.Summary, delegated, stderr.String())
	}
	figure("pitboss verify", "%d runs, %d survivors, %d false kills, %d innocents", report.Summary.Runs, report.Summary.Survivors, report.Summary.FalseKills, report.Summary.Innocents)
	after := look(t)
	if mainPID(t) != main || len(after.Pools) == 0 || len(before.Pools) != len(after.Pools) {
		t.Fatalf("the service was %d %+v, is %d %+v", main, before, mainPID(t), after)
	}
	for i, w := range before.Pools[0].Workers {
		if after.Pools[0].Workers[i].PID != w.PID {
			t.Errorf("worker %+v of the service is now %+v", w, after.Pools[0].Workers[i])
		}
	}
	answers(t)
}
