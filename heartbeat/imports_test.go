package heartbeat

import (
	"os/exec"
	"strings"
	"testing"
)

// The verdicts are pure: what reads a clock, a file or a socket belongs to the caller, who can then be tested without one.
func TestImportsNothingThatActs(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	allowed := map[string]string{
		"errors": "faults", "fmt": "texts of evidence", "strconv": "names", "strings": "the table of verdicts", "time": "durations only",
	}
	for _, name := range strings.Fields(string(out)) {
		if allowed[name] == "" {
			t.Errorf("heartbeat imports %q", name)
		}
	}
}
