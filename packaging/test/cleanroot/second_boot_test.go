//go:build cleanroot

package cleanroot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSecondBootServes: nobody started anything.
func TestSecondBootServes(t *testing.T) {
	serving(t)
	adds(t)
	if len(processes(t)) < 3 { // the control of what TestSecondBootPurge counts
		t.Errorf("%q", processes(t))
	}
}

// TestSecondBootPurge: what workers wrote is kept and named, and nothing else is left.
func TestSecondBootPurge(t *testing.T) {
	file := strings.Trim(strings.TrimSpace(run(t, "pitboss", "call", "keep", "text=mine")), `"`)
	removePool(t)
	if said := apt(t, "purge", "pitboss"); !strings.Contains(said, filepath.Dir(file)+" is kept") {
		t.Errorf("nobody says that %s is kept:\n%s", file, said)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "mine" {
		t.Errorf("%q %v", text, err)
	}
	gone(t, "/var/lib/pitboss", file)
}
