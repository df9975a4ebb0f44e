package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

const dying = `
import os, signal, pitboss

@pitboss.tool
def die():
    os.kill(os.getpid(), signal.SIGKILL)
`

// TestTheJournalCanExplainADeath: the entry of a worker that was killed carries the MESSAGE_ID under which the catalog explains it;
// that of a worker that ends because the agent stops carries none, and neither does any other ordinary entry.
func TestTheJournalCanExplainADeath(t *testing.T) {
	h := newHost(t)
	catalog := read(t, "../../packaging/catalog/pitboss.catalog")
	must(t, os.WriteFile(h.path("tools.py"), []byte(dying), 0o644))
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte("log: {format: journald}\npools: [{name: default, adapter: tools.py, workers: 1}]\n"), 0o644))
	c, entries := h.journalOf("pitboss", "agent", "--config", "pitboss.yaml")
	s := h.start(c)
	s.awaitReady()
	h.pitboss("call", "die").want(t, exitUnavailable)
	next := func(event string) map[string]string {
		t.Helper()
		deadline := time.After(patience)
		for {
			select {
			case e := <-entries:
				if e["PITBOSS_EVENT"] == event {
					return e
				}
				if e["MESSAGE_ID"] != "" {
					t.Errorf("an ordinary entry has a MESSAGE_ID: %v", e)
				}
			case <-deadline:
				t.Fatalf("no entry of %s: %s", event, s.log())
			}
		}
	}
	e := next("worker.exited")
	subject := "-- " + e["MESSAGE_ID"] + "\nSubject: Worker @PITBOSS_WORKER@ of pool @PITBOSS_POOL@ ended unexpectedly\n"
	if e["MESSAGE_ID"] == "" || !strings.Contains(catalog, subject) || e["PITBOSS_END"] != "died by SIGKILL" {
		t.Errorf("%v", e)
	}
	next("worker.ready") // its successor
	must(t, s.cmd.Process.Signal(syscall.SIGTERM))
	if e := next("worker.exited"); e["MESSAGE_ID"] != "" {
		t.Errorf("an orderly end has a MESSAGE_ID: %v", e)
	}
	next("agent.stopped")
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
