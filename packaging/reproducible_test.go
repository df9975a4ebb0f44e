//go:build package

package packaging

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		all[e.Name()] = hex.EncodeToString(sum[:])
	}
	return all
}

// TestASecondBuildElsewhereHasTheSameBytes: another directory, umask, time zone, language and file times, and no repository.
func TestASecondBuildElsewhereHasTheSameBytes(t *testing.T) {
	elsewhere, out := filepath.Join(t.TempDir(), "a different place"), t.TempDir()
	epoch := strings.TrimSpace(run(t, "git", "log", "-1", "--format=%ct"))
	version := versionOf(t)
	run(t, "bash", "-o", "pipefail", "-c", `mkdir "$1" && cd .. && git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -xm -C "$1"`, "bash", elsewhere)
	c := exec.Command("bash", "-c", `umask 077 && exec packaging/build "$1"`, "bash", out)
	c.Dir = elsewhere
	c.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+epoch, "TZ=Asia/Tokyo", "LANG=C.UTF-8", "VERSION="+version)
	if text, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	first, second := sums(t, *dist), sums(t, out)
	if len(first) != 9 || len(second) != len(first) {
		t.Errorf("%d and %d files, want 9: deb, rpm, tarball and wheel of two architectures, and SHA256SUMS", len(first), len(second))
	}
	for name, sum := range first {
		if second[name] != sum {
			t.Errorf("%s differs: %s and %q", name, sum, second[name])
		}
	}
}

// TestAnotherTimeGivesOtherBytes is the control: the comparison sees one second of difference.
func TestAnotherTimeGivesOtherBytes(t *testing.T) {
	root := unpacked(t, built(t, "pitboss-*-linux-amd64.tar.gz"))
	pack := func(epoch string) string {
		dir := t.TempDir()
		run(t, "tar", "-C", root, "--sort=name", "--mtime=@"+epoch, "--owner=0", "--group=0", "-cf", filepath.Join(dir, "x"), ".")
		return sums(t, dir)["x"]
	}
	if first, same, later := pack("1"), pack("1"), pack("2"); first != same || first == later {
		t.Error("the sums say nothing about the bytes")
	}
}

// TestTheSumsAreRight: SHA256SUMS is of the files beside it.
func TestTheSumsAreRight(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(*dist, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	all := sums(t, *dist)
	for _, line := range lines {
		if sum, name, ok := strings.Cut(line, "  "); !ok || all[name] != sum {
			t.Errorf("%q, but %s", line, all[name])
		}
	}
	if len(lines) != len(all)-1 {
		t.Errorf("%d lines for %d files", len(lines), len(all)-1)
	}
}

// versionOf is the version that the packages in dist have.
func versionOf(t *testing.T) string {
	t.Helper()
	version, _, ok := strings.Cut(strings.TrimPrefix(filepath.Base(built(t, "pitboss-*.x86_64.rpm")), "pitboss-"), "-1.")
	if !ok {
		t.Fatal("the rpm's name has no version")
	}
	return version
}
