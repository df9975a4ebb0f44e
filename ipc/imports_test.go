package ipc

import (
	"os/exec"
	"strings"
	"testing"
)

// The watchdog links this package and must stay small: the standard library and x/sys/unix only, and of the standard
// library nothing that drags the resolver, reflection-heavy encoders or a logger in.
func TestImports(t *testing.T) {
	banned := map[string]string{
		"net":           "starts the poller and resolver; adds megabytes to the watchdog",
		"os":            "the packets are plain descriptors: an os.File would put them into the poller",
		"fmt":           "reflection; 0.3 MB of the watchdog's budget",
		"encoding/json": "reflection; the guard link is binary for this reason",
		"log":           "this package returns errors; it never writes",
	}
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}module {{end}}{{.ImportPath}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{"golang.org/x/sys/unix": true, "github.com/pitboss-run/pitboss/ipc": true}
	for _, line := range strings.Fields(strings.ReplaceAll(string(out), "module ", "module:")) {
		path, foreign := strings.CutPrefix(line, "module:")
		if foreign && !allowed[path] {
			t.Errorf("ipc imports %s: only the standard library and golang.org/x/sys/unix are allowed", path)
		}
		if why, ok := banned[path]; ok {
			t.Errorf("ipc imports %s: %s", path, why)
		}
	}
}
