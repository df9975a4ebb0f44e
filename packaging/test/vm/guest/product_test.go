//go:build vm

package guest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// TestAServiceWithoutPrivilegesMayComeFirst: LimitNICE= lets guardians raise themselves, and no worker.
func TestAServiceWithoutPrivilegesMayComeFirst(t *testing.T) {
	adapter := filepath.Join(t.TempDir(), "tools.py")
	code := `
import os, resource
import pitboss

@pitboss.tool
def nice() -> list:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -1)
        raise RuntimeError("a worker could raise itself")
    except PermissionError:
        return [os.getpriority(os.PRIO_PROCESS, pid) for pid in (0, os.getppid())] + list(resource.getrlimit(resource.RLIMIT_NICE))
`
	if err := os.WriteFile(adapter, []byte(code), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("pitboss", "run", adapter, "nice").Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	if err := json.Unmarshal(out, &got); err != nil || !slices.Equal(got, []int{0, -10, 20, 20}) {
		t.Errorf("worker, keeper and limit: %q %v", out, err)
	}
}
