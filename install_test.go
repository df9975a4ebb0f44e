package pitboss_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMakeInstall puts everything where a packager or an administrator looks for it, and what it installs runs.
func TestMakeInstall(t *testing.T) {
	root := t.TempDir()
	if out, err := exec.Command("make", "install", "DESTDIR="+root, "PREFIX=/usr").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"bin/pitboss-watchdog", "share/man/man1/pitboss.1", "share/man/man1/pitboss-run.1", "share/man/man8/pitboss-watchdog.8",
		"share/bash-completion/completions/pitboss", "share/zsh/site-functions/_pitboss", "share/fish/vendor_completions.d/pitboss.fish"} {
		if info, err := os.Stat(filepath.Join(root, "usr", name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	out, err := exec.Command(filepath.Join(root, "usr/bin/pitboss"), "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "pitboss ") {
		t.Errorf("%q %v", out, err)
	}
}
