package agent

import (
	"strings"
	"testing"

	"github.com/pitboss-run/pitboss/ipc"
	"github.com/pitboss-run/pitboss/python"
)

// TestBothHalvesAreOfOneVersion: the number stands in Go and in Python, because neither can read the other's at build time.
func TestBothHalvesAreOfOneVersion(t *testing.T) {
	text, err := python.Library.ReadFile("src/pitboss/__init__.py")
	if err != nil || !strings.Contains(string(text), `__version__ = "`+ipc.Version+`"`) {
		t.Errorf("the Python half is not version %s: %v", ipc.Version, err)
	}
}
