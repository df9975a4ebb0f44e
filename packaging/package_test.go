//go:build package

// Package packaging checks what packaging/build has made: `make check-package`. It boots nothing and installs nothing.
package packaging

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var dist = flag.String("dist", "", "directory that packaging/build has filled")

// began is when the tests did.
var began = time.Now()

// architectures by Go's name: those of Debian, rpm and wheels.
var architectures = map[string][3]string{"amd64": {"amd64", "x86_64", "x86_64"}, "arm64": {"arm64", "aarch64", "aarch64"}}

// built is the one file of dist that the pattern names.
func built(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(*dist, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %d files in %q, want 1; run `make check-package`", pattern, len(found), *dist)
	}
	return found[0]
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// need installs a tool of the distribution where it is not there.
func need(t *testing.T, tool, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err == nil {
		return
	}
	run(t, "apt-get", "update", "-q")
	run(t, "apt-get", "install", "-qy", pkg)
}

// TestLintian finds no error and no warning that the package's overrides do not explain, and no override that overrides nothing.
func TestLintian(t *testing.T) {
	need(t, "lintian", "lintian")
	for _, arch := range architectures {
		deb := built(t, "pitboss_*_"+arch[0]+".deb")
		out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", deb).CombinedOutput()
		if err != nil || strings.Contains(string(out), "unused-override") {
			t.Errorf("%s: %v\n%s", deb, err, out)
		}
	}
}

// TestLintianFindsWhatTheOverridesExplain is the control: without them it fails.
func TestLintianFindsWhatTheOverridesExplain(t *testing.T) {
	need(t, "lintian", "lintian")
	out, err := exec.Command("lintian", "--allow-root", "--no-override", "--fail-on", "error,warning", built(t, "pitboss_*_amd64.deb")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "statically-linked-binary") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestRpmlint finds no error and no warning that rpm/rpmlint.toml does not explain; without that file it does (control).
func TestRpmlint(t *testing.T) {
	need(t, "rpmlint", "rpmlint")
	summary := regexp.MustCompile(`(\d+) errors, (\d+) warnings`)
	for _, arch := range architectures {
		rpm := built(t, "pitboss-*."+arch[1]+".rpm")
		out, err := rpmlint(t, "--config", "rpm/rpmlint.toml", rpm)
		if m := summary.FindStringSubmatch(out); err != nil || m == nil || m[1] != "0" || m[2] != "0" {
			t.Errorf("%v\n%s", err, out)
		}
		if out, err := rpmlint(t, rpm); err == nil || !strings.Contains(out, "E: statically-linked-binary /usr/bin/pitboss-watchdog") {
			t.Errorf("rpmlint finds nothing even without the filters: %v\n%s", err, out)
		}
	}
}

// rpmlint runs with a cpio that keeps below the directory it is in. rpmlint pipes the archive into `cpio -id`, and the names in
// nfpm's archives begin with a slash: as root it would install the package over the system that checks it.
func rpmlint(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cpio, err := exec.LookPath("cpio")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cpio"), []byte("#!/bin/sh\nexec "+cpio+" --no-absolute-filenames \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("rpmlint", args...)
	c.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := c.CombinedOutput()
	return string(out), err
}

// TestNothingIsWrittenToTheHost: the archives of the rpm have absolute names (see rpmlint), so that a careless tool installs them here.
func TestNothingIsWrittenToTheHost(t *testing.T) {
	for name := range contract(t) {
		if info, err := os.Lstat(name); err == nil && info.ModTime().After(began) {
			t.Errorf("%s was written while the tests ran", name)
		}
	}
}
