package main

import (
	"maps"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/pitboss-run/pitboss/agent/client"
)

// TestExitCodesInTheErrorsDocument holds the documented exit codes, and what to do next, to the tables that main uses.
func TestExitCodesInTheErrorsDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	exits := maps.Clone(reasonExit)
	exits[string(client.Unreachable)] = exitUnavailable // global.unreachable says it, with the socket's name
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 10 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		reason, next := strings.Trim(cells[1], " `"), strings.TrimSpace(cells[8])
		code, known := exits[reason]
		if said, err := strconv.Atoi(strings.TrimSpace(cells[3])); err != nil || !known || said != code {
			t.Errorf("%s is documented with exit code %q and has %d", reason, cells[3], code)
		}
		if said := nextStep[reason]; next == "" || said != "" && said != next {
			t.Errorf("%s: what to do next is documented as %q and said to be %q", reason, next, said)
		}
		delete(exits, reason)
	}
	for reason := range exits {
		t.Errorf("%s is not documented", reason)
	}
}
