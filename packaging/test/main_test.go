//go:build booted

package booted

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	// share is where lane.sh puts packages, adapter and Python libraries.
	share = "/opt/pitboss-test"
	// patience bounds every wait for an event; the machine may be slow and shared.
	patience = 60 * time.Second
)

// figures is the table at the end, in the order in which they were measured.
var figures [][2]string

func figure(name, format string, args ...any) {
	figures = append(figures, [2]string{name, fmt.Sprintf(format, args...)})
}

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "role=client" {
		os.Exit(playClient(os.Args[2]))
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil || os.Getenv("INVOCATION_ID") == "" {
		fmt.Fprintln(os.Stderr, "cannot run: these tests install and remove packages and want a machine of their own; `make test-package` boots one")
		os.Exit(1)
	}
	code := m.Run()
	files, _ := filepath.Glob(share + "/old/*.[dr][ep][bm]")
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			figure("size of "+filepath.Base(file), "%.1f MB", float64(info.Size())/1e6)
		}
	}
	fmt.Println("\nfigures")
	for _, f := range figures {
		fmt.Printf("  %-52s %s\n", f[0], f[1])
	}
	os.Exit(code)
}

// one is the only file of that pattern in the share.
func one(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(share, pattern))
	if err != nil || len(files) != 1 {
		t.Fatalf("%s: want one file, have %s", pattern, strings.Join(files, " "))
	}
	return files[0]
}
