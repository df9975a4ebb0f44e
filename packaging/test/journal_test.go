//go:build booted

package booted

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
)

// TestEventInTheJournal: an event is a record with its fields, found by them, of this unit and of the process that says it was it.
func TestEventInTheJournal(t *testing.T) {
	before := serving(t)
	since := markJournal(t)
	worker := before.Pools[0].Workers[0]
	must(t, syscall.Kill(worker.PID, syscall.SIGKILL))
	var record map[string]any
	await(t, "the event is in the journal", func() bool {
		out, _ := try(t, "journalctl", "--no-pager", string(since), "-o", "json", "PITBOSS_EVENT=worker.exited")
		line, _, _ := strings.Cut(out, "\n")
		return json.Unmarshal([]byte(line), &record) == nil
	})
	for field, want := range map[string]string{"PITBOSS_EVENT": "worker.exited", "PITBOSS_POOL": "default", "PITBOSS_WORKER": worker.ID,
		"_SYSTEMD_UNIT": service, "_COMM": "pitboss", "_TRANSPORT": "journal", "SYSLOG_IDENTIFIER": "pitboss", "PRIORITY": "6"} {
		if record[field] != want {
			t.Errorf("%s is %q, want %q", field, record[field], want)
		}
	}
	if t.Failed() {
		t.Logf("%v", record)
	}
	// What a worker writes is in the journal too, and not as a manager's message.
	out, _ := try(t, "journalctl", "--no-pager", "-o", "json", "-n", "1", "PITBOSS_EVENT=agent.started", "_SYSTEMD_UNIT="+service)
	if !strings.Contains(out, `"PITBOSS_RUN_ID":"`+before.Agent.RunID+`"`) {
		t.Errorf("agent.started: %s", out)
	}
}

// TestCatalog: the record of a killed worker has a message id, and the catalog explains it.
func TestCatalog(t *testing.T) {
	before := serving(t)
	since := markJournal(t)
	must(t, syscall.Kill(before.Pools[0].Workers[0].PID, syscall.SIGKILL))
	await(t, "the event is explained", func() bool {
		out, _ := try(t, "journalctl", "--no-pager", string(since), "-x", "PITBOSS_EVENT=worker.exited")
		return strings.Contains(out, "░░") && strings.Contains(out, "pitboss ")
	})
}
