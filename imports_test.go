// Package pitboss_test holds what is true of the repository as a whole.
package pitboss_test

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/pitboss-run/pitboss/"

func deps(t *testing.T, pkg string) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", "./"+pkg).Output()
	if err != nil {
		t.Fatalf("go list %s: %v", pkg, err)
	}
	return strings.Fields(string(out))
}

// TestImportDirections: arrows point one way. Each row names what a package may not reach, and why.
func TestImportDirections(t *testing.T) {
	for _, c := range []struct{ pkg, banned, why string }{
		{"watchdog", module + "agent", "the guardian must not share code that can fail with what it guards"},
		{"watchdog", "google.golang.org/grpc", "the guardian stays small: idle below 1 MB of its own memory"},
		{"watchdog", "net/http", "the guardian stays small"},
		{"watchdog", module + "heartbeat", "the watchdog judges the agent by its own evidence"},
		{"cmd/watchdog", "net/http", "the guardian stays small"},
		{"ipc", "net", "the watchdog links it"},
		{"ipc", module + "agent", "the wire knows nothing of its users"},
		{"heartbeat", module + "ipc", "verdicts are pure"},
		{"heartbeat", "golang.org/x/sys/unix", "verdicts are pure"},
		{"agent", module + "watchdog", "the two talk over a link only"},
		{"agent", module + "agent/client", "the server does not need its client"},
		{"agent", module + "agent/chaos", "what is tested does not know its test"},
		{"agent/chaos", module + "ipc", "what pitboss says to itself is not evidence"},
		{"agent/chaos", module + "watchdog", "what pitboss says to itself is not evidence"},
		{"agent/client", module + "ipc", "a client needs the public API only"},
	} {
		for _, dep := range deps(t, c.pkg) {
			if dep == c.banned || strings.HasPrefix(dep, c.banned+"/") && c.banned != "net" {
				t.Errorf("%s imports %s: %s", c.pkg, dep, c.why)
			}
		}
	}
}
