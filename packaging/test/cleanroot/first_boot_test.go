//go:build cleanroot

package cleanroot

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestFirstBootIsBare is the control: whatever the package needs has to come with it.
func TestFirstBootIsBare(t *testing.T) {
	for _, name := range []string{"pitboss", "python3"} {
		if path, err := exec.LookPath(name); err == nil {
			t.Errorf("%s is here already", path)
		}
	}
	if _, _, code := try(t, "getent", "passwd", "pitboss"); code == 0 {
		t.Error("the user is here already")
	}
	if out := run(t, "systemctl", "--version"); !strings.HasPrefix(out, "systemd 257") {
		t.Errorf("this systemd was not meant: %.20s", out)
	}
	noFailedUnit(t)
	remember(t)
	if diff := changed(t); len(diff) != 0 { // and the comparison compares
		t.Errorf("changed: %q", diff)
	}
	if err := os.WriteFile("/usr/planted", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if diff := changed(t); len(diff) != 1 || diff[0] != "/usr/planted" {
		t.Errorf("changed: %q", diff)
	}
	if err := os.Remove("/usr/planted"); err != nil {
		t.Fatal(err)
	}
}

// TestFirstBootWithoutRecommends: no Python at all. The service runs, a pool is refused with the reason, and a purge leaves nothing behind.
func TestFirstBootWithoutRecommends(t *testing.T) {
	apt(t, "install", "--no-install-recommends", packageFile)
	serving(t)
	if path, err := exec.LookPath("python3"); err == nil {
		t.Fatalf("%s came although it was not to", path)
	}
	addPool(t)
	_, said, code := try(t, "pitboss", "reload")
	if code != 78 || !strings.Contains(said, "cannot find an interpreter") || strings.Contains(said, "limits.payload") {
		t.Errorf("exit code %d: %s", code, said)
	}
	serving(t)
	removePool(t)
	apt(t, "purge", "pitboss")
	gone(t, "/etc/group", "/etc/group-", "/etc/gshadow", "/etc/gshadow-", "/etc/passwd", "/etc/passwd-", "/etc/shadow", "/etc/shadow-")
}

// TestFirstBootInstall: `apt install ./pitboss.deb`, nothing else, and the service runs with the distribution's Python.
func TestFirstBootInstall(t *testing.T) {
	apt(t, "install", packageFile)
	serving(t)
	if _, err := exec.LookPath("python3"); err != nil {
		t.Error(err)
	}
	if out := run(t, "dpkg", "--audit"); out != "" {
		t.Errorf("dpkg --audit: %s", out)
	}
	addPool(t)
	reload(t)
	adds(t)

	// Python stays when the package goes: from here on it is part of the ground, and the package starts anew.
	removePool(t)
	apt(t, "purge", "pitboss")
	remember(t)
	apt(t, "install", packageFile)
	serving(t)
	addPool(t)
	reload(t)
	adds(t)
}

// TestFirstBootUnitsAreRight: whatever verify has to say it says on stderr, with exit code 0 for a key that it does not know.
func TestFirstBootUnitsAreRight(t *testing.T) {
	for _, units := range [][]string{
		{"/usr/lib/systemd/system/pitboss.service", "/usr/lib/systemd/system/pitboss.socket"},
		{"/usr/lib/systemd/system/pitboss@.service", "/usr/lib/systemd/system/pitboss@.socket"},
		{"--user", "/usr/lib/systemd/user/pitboss.service", "/usr/lib/systemd/user/pitboss.socket"},
	} {
		out, said, code := try(t, "systemd-analyze", append([]string{"verify", "--man=no"}, units...)...)
		if code != 0 || out+said != "" {
			t.Errorf("verify %q: exit code %d\n%s%s", units, code, out, said)
		}
	}
	unit := t.TempDir() + "/planted.service" // the control
	if err := os.WriteFile(unit, []byte("[Service]\nExecStart=/bin/true\nNoSuchKey=1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, said, _ := try(t, "systemd-analyze", "verify", "--man=no", unit); !strings.Contains(said, "NoSuchKey") {
		t.Errorf("a wrong unit is right: %q", said)
	}
}
