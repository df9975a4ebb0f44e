package agent

import (
	"os"
	"path/filepath"
	"testing"
)

func TestALibraryThatWasTidiedUpIsRenewed(t *testing.T) {
	base := t.TempDir()
	dir, err := extractLibrary(base)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pitboss", "_worker.py")
	bytecode := filepath.Join(dir, "pitboss", "__pycache__")
	if err := os.Mkdir(bytecode, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func() error{
		"nothing": func() error { return nil },
		"removed": func() error { return os.Remove(file) },
		"changed": func() error { return os.WriteFile(file, []byte("pass\n"), 0o644) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		again, err := extractLibrary(base)
		if err != nil || again != dir {
			t.Fatalf("%s: %q %v", name, again, err)
		}
		if info, err := os.Stat(file); err != nil || info.Size() < 1000 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := extractLibrary(base); err == nil {
		t.Error("a directory that everybody can write was used")
	}
}
