package client

import (
	"os"
	"strings"
	"testing"
)

// TestRetriesInTheErrorsDocument holds the documented rules and pauses to the table that Retryable decides by.
func TestRetriesInTheErrorsDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[retryRule]string{retryNever: "no", retryUnrun: "if it has not run, or may run twice", retryAlways: "yes", retryHinted: "if the tool says so"}
	documented := map[Reason]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 10 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		reason := Reason(strings.Trim(cells[1], " `"))
		documented[reason] = true
		want, pause := retries[reason], ""
		if want.pause > 0 {
			pause = want.pause.String()
		}
		if rule, after := strings.TrimSpace(cells[6]), strings.TrimSpace(cells[7]); rule != names[want.rule] || after != pause {
			t.Errorf("%s is documented as %q after %q, and is %q after %q", reason, rule, after, names[want.rule], pause)
		}
		if run := strings.TrimSpace(cells[5]); want.rule == retryAlways && run != "no" {
			t.Errorf("%s may always be sent again, and is documented as having run: %q", reason, run)
		}
	}
	for reason := range retries {
		if !documented[reason] {
			t.Errorf("%s is not documented", reason)
		}
	}
}
