//go:build vm

package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestTheProductRunsHere: the kernel, the Python and the user are others than the host's.
func TestTheProductRunsHere(t *testing.T) {
	adapter := filepath.Join(t.TempDir(), "adder.py")
	if err := os.WriteFile(adapter, []byte("import pitboss\n\n@pitboss.tool\ndef add(a: int, b: int) -> int:\n    return a + b\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("pitboss", "run", adapter, "add", "a=40", "b=2").Output()
	if err != nil || string(out) != "42\n" {
		t.Errorf("%q %v", out, err)
	}
}
