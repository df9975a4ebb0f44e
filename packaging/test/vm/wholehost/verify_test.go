//go:build vm

// Package wholehost holds the test that harms a whole machine: its clock, its table of files. `make test-vm` has ../run start it, as root.
package wholehost

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"testing"
)

// TestVerifyOnAMachineOfItsOwn runs the rows of `pitboss verify` that no other machine may be asked for.
func TestVerifyOnAMachineOfItsOwn(t *testing.T) {
	c := exec.Command("pitboss", "verify", "--whole-host", "--json", "--only", "clock-stepped,host-files-run-out,user-processes-run-out")
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	var report struct {
		Rows []struct {
			Scenario, Result, Reason string
			Failures, Notes          []string
		}
	}
	if bad := json.Unmarshal(out, &report); bad != nil || len(report.Rows) != 4 {
		t.Fatalf("%v, %v: %s\n%s", err, bad, out, said.String())
	}
	for _, row := range report.Rows {
		t.Logf("%s: %s %q", row.Scenario, row.Result, row.Notes)
		if row.Result != "pass" {
			t.Errorf("%s: %s, %s %q", row.Scenario, row.Result, row.Reason, row.Failures)
		}
	}
	if err != nil {
		t.Errorf("%v\n%s", err, said.String())
	}
}
