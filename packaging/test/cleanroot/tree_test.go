//go:build cleanroot

package cleanroot

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ground is what the machine was before the package came; the second boot compares with it too.
const ground = "/opt/test/ground.json"

// notCompared are kept by the system itself: kernel and memory file systems, these tests, logs, the books of apt, dpkg and systemd, and what a boot writes.
var notCompared = []string{"/proc", "/sys", "/dev", "/run", "/tmp", "/opt/test", "/srv", "/root", "/var/log", "/var/lib/apt", "/var/cache/apt",
	"/var/lib/dpkg", "/var/lib/systemd", "/var/tmp", "/var/cache/debconf", "/var/cache/ldconfig",
	"/etc/.updated", "/var/.updated", "/etc/hosts", "/etc/resolv.conf", "/etc/machine-id"}

// tree is every path of the machine with its type, mode and owner, and what is in it below /etc.
func tree(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir("/", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if slices.Contains(notCompared, path) {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		all[path] = info.Mode().String()
		if strings.HasPrefix(path, "/etc/") && info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			all[path] += fmt.Sprintf(" %x", sha256.Sum256(text))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// remember writes the ground; changed are the paths that differ from it now.
func remember(t *testing.T) {
	t.Helper()
	text, err := json.Marshal(tree(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ground, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

func changed(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(ground)
	if err != nil {
		t.Fatal(err)
	}
	var before map[string]string
	if err := json.Unmarshal(text, &before); err != nil {
		t.Fatal(err)
	}
	now := tree(t)
	var diff []string
	for path := range now {
		if now[path] != before[path] {
			diff = append(diff, path)
		}
	}
	for path := range maps.Keys(before) {
		if now[path] == "" {
			diff = append(diff, "missing: "+path)
		}
	}
	slices.Sort(diff)
	return diff
}
