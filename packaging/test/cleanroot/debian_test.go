//go:build cleanroot

// Package cleanroot holds the tests that run inside a minimal Debian stable which has never seen this package: what it declares to need must be enough,
// its units must be right for another systemd than the developer's, and after a purge nothing may be left that its policy does not name.
// `make test-clean-root` compiles them and has ./run boot the machine twice: first for the tests named TestFirstBoot…, then for those named TestSecondBoot….
package cleanroot

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const packageFile = "/opt/test/pitboss.deb"

// try runs a command: its stdout, its stderr, its exit code.
func try(t *testing.T, name string, args ...string) (out, said string, code int) {
	t.Helper()
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=", "XDG_RUNTIME_DIR=/run")
	var o, e bytes.Buffer
	c.Stdout, c.Stderr = &o, &e
	var exit *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatalf("cannot run %s: %v", name, err)
	}
	return o.String(), e.String(), c.ProcessState.ExitCode()
}

// run is try of a command that must succeed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, said, code := try(t, name, args...)
	if code != 0 {
		t.Fatalf("%s %s: exit code %d\n%s%s", name, strings.Join(args, " "), code, out, said)
	}
	return out
}

// apt runs apt-get as an administrator would. There is no network: what it may take lies in its cache.
func apt(t *testing.T, args ...string) string {
	t.Helper()
	out, said, code := try(t, "apt-get", append([]string{"-y", "-o", "Dpkg::Use-Pty=0"}, args...)...)
	if code != 0 {
		t.Fatalf("apt-get %q: exit code %d\n%s%s", args, code, out, said)
	}
	return out + said
}

func state(t *testing.T, unit string) string {
	t.Helper()
	out, _, _ := try(t, "systemctl", "is-active", unit)
	return strings.TrimSpace(out)
}

// serving fails unless service and socket are active and enabled and the agent says that it is well.
func serving(t *testing.T) {
	t.Helper()
	for _, unit := range []string{"pitboss.service", "pitboss.socket"} {
		enabled, _, _ := try(t, "systemctl", "is-enabled", unit)
		if s := state(t, unit); s != "active" || enabled != "enabled\n" {
			status, _, _ := try(t, "systemctl", "status", "--no-pager", "-l", unit)
			t.Fatalf("%s is %s and %s\n%s", unit, s, enabled, status)
		}
	}
	run(t, "pitboss", "wait", "--timeout=1m") // the unit is active before its pools are warm
	run(t, "pitboss", "health")
	noFailedUnit(t)
}

func noFailedUnit(t *testing.T) {
	t.Helper()
	if out := run(t, "systemctl", "--failed", "--no-legend", "--plain"); out != "" {
		t.Errorf("failed units:\n%s", out)
	}
}

// addPool makes a pool as the configuration file of the package says: a file in conf.d/. A reload takes it in.
func addPool(t *testing.T) {
	t.Helper()
	for name, text := range map[string]string{
		"/srv/tools.py": `import os
import pathlib

import pitboss


@pitboss.tool
def add(a: int, b: int) -> int:
    return a + b


@pitboss.tool
def keep(text: str) -> str:
    file = pathlib.Path(os.environ["HOME"], "kept")
    file.write_text(text)
    return str(file)
`,
		"/etc/pitboss/conf.d/sums.yaml": "pools:\n  - name: sums\n    adapter: /srv/tools.py\n    workers: 1\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// removePool takes away again what an administrator has put there: no package may.
func removePool(t *testing.T) {
	t.Helper()
	for _, name := range []string{"/etc/pitboss/conf.d/sums.yaml", "/srv/tools.py"} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

func reload(t *testing.T) {
	t.Helper()
	if _, said, code := try(t, "systemctl", "reload", "pitboss.service"); code != 0 {
		journal, _, _ := try(t, "journalctl", "--no-pager", "-u", "pitboss", "-n", "30")
		t.Fatalf("exit code %d: %s%s", code, said, journal)
	}
}

func adds(t *testing.T) {
	t.Helper()
	if out := run(t, "pitboss", "call", "add", "a=40", "b=2"); strings.TrimSpace(out) != "42" {
		journal, _, _ := try(t, "journalctl", "--no-pager", "-u", "pitboss", "-n", "30")
		t.Errorf("40 + 2 = %q\n%s", out, journal)
	}
}

// processes are those of the service's user.
func processes(t *testing.T) []string {
	t.Helper()
	all, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	uid := strings.TrimSpace(run(t, "id", "-u", "pitboss"))
	var found []string
	for _, entry := range all {
		status, err := os.ReadFile("/proc/" + entry.Name() + "/status")
		if err != nil { // not a process, or one that has ended
			continue
		}
		for line := range strings.Lines(string(status)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "Uid:" && slices.Contains(f[1:], uid) {
				command, _ := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
				found = append(found, entry.Name()+" "+string(bytes.ReplaceAll(command, []byte{0}, []byte{' '})))
			}
		}
	}
	return found
}

// gone fails unless of all files only those differ from the ground, the accounts are there (their numbers may own files), and nothing else is.
func gone(t *testing.T, differ ...string) {
	t.Helper()
	if diff := changed(t); !slices.Equal(diff, differ) {
		t.Errorf("%d paths differ, want %q: %.2000q", len(diff), differ, diff)
	}
	run(t, "id", "pitboss")
	run(t, "getent", "group", "pitboss-clients")
	if found := processes(t); len(found) != 0 {
		t.Errorf("processes: %q", found)
	}
	if out, _, _ := try(t, "systemctl", "list-unit-files", "--no-legend", "pitboss*"); out != "" {
		t.Errorf("unit files: %s", out)
	}
	for line := range strings.Lines(run(t, "systemctl", "list-units", "--all", "--no-legend", "--plain", "pitboss*")) {
		if !strings.Contains(line, " not-found inactive dead ") { // driver.service, which starts after it, keeps the name alive
			t.Errorf("unit: %s", line)
		}
	}
	for _, pattern := range []string{"/run/pitboss*", "/var/lib/dpkg/info/pitboss*",
		"/var/lib/systemd/deb-systemd-helper-*/*pitboss*", "/var/lib/systemd/deb-systemd-helper-*/*/*pitboss*"} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) != 0 {
			t.Errorf("left: %q %v", left, err)
		}
	}
	noFailedUnit(t)
}
