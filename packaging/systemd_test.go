//go:build package

package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSystemdTakesTheFiles of the package: its own tools read them, in a root of their own.
func TestSystemdTakesTheFiles(t *testing.T) {
	root := unpacked(t, built(t, "pitboss_*_amd64.deb"))
	run(t, "systemd-sysusers", "--root", root, "pitboss.conf")
	passwd, group := readFile(t, root, "etc/passwd"), readFile(t, root, "etc/group")
	if !regexp.MustCompile(`(?m)^pitboss:x:\d+:\d+:pitboss agent:/var/lib/pitboss:/usr/sbin/nologin$`).MatchString(passwd) {
		t.Errorf("passwd: %s", passwd)
	}
	for _, name := range []string{"pitboss", "pitboss-clients"} {
		if !regexp.MustCompile(`(?m)^` + name + `:x:\d+:$`).MatchString(group) {
			t.Errorf("group %s, without members: %s", name, group)
		}
	}
	run(t, "systemd-tmpfiles", "--root", root, "--create", "pitboss.conf")
	if info, err := os.Stat(filepath.Join(root, "run/pitboss")); err != nil || info.Mode() != os.ModeDir|0o755 {
		t.Errorf("%v %v", info, err)
	}
	dump := func() (string, error) {
		if out, err := exec.Command("journalctl", "--update-catalog", "--root", root).CombinedOutput(); err != nil {
			return string(out), err
		}
		out, err := exec.Command("journalctl", "--dump-catalog", "--root", root).CombinedOutput()
		return string(out), err
	}
	source := readFile(t, root, "usr/lib/systemd/catalog/pitboss.catalog")
	text, err := dump()
	if want := strings.Count(source, "\nSubject: "); err != nil || want == 0 || strings.Count(text, "Subject: ") != want {
		t.Errorf("%v, want %d entries: %s", err, want, text)
	}
	// The control: an entry without its blank line is refused or comes out wrong.
	broken := filepath.Join(root, "usr/lib/systemd/catalog/pitboss.catalog")
	if err := os.WriteFile(broken, []byte(strings.Replace(source, "\n\n-- ", "\n-- ", -1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if again, err := dump(); err == nil && again == text {
		t.Error("a broken catalog makes no difference")
	}
}

// TestPresets: a deb enables service and socket, an rpm neither.
func TestPresets(t *testing.T) {
	for name, want := range map[string]string{"pitboss_*_amd64.deb": "enabled", "pitboss-*.x86_64.rpm": "disabled"} {
		root := unpacked(t, built(t, name))
		for _, unit := range []string{"pitboss.service", "pitboss.socket"} {
			run(t, "systemctl", "--root", root, "preset", unit)
			out, _ := exec.Command("systemctl", "--root", root, "is-enabled", unit).Output() // 1 for disabled
			if got := strings.TrimSpace(string(out)); got != want {
				t.Errorf("%s: %s is %s, want %s", name, unit, got, want)
			}
		}
	}
}

// TestNeedrestartLeavesTheServicesAlone, and only them: its configuration is Perl.
func TestNeedrestartLeavesTheServicesAlone(t *testing.T) {
	root := unpacked(t, built(t, "pitboss_*_amd64.deb"))
	out := run(t, "perl", "-e", `our %nrconf = (override_rc => {}); defined(do $ARGV[0]) or die "$@ $!";
		for my $unit ("pitboss.service", "pitboss\@gpu.service", "pitbossy.service", "other-pitboss.service") {
			my @hits = grep { $unit =~ /$_/ } keys %{$nrconf{override_rc}};
			print $unit, "=", join(",", map { $nrconf{override_rc}{$_} } @hits), ";" }`, filepath.Join(root, "etc/needrestart/conf.d/pitboss.conf"))
	if out != "pitboss.service=0;pitboss@gpu.service=0;pitbossy.service=;other-pitboss.service=;" {
		t.Error(out)
	}
}

func readFile(t *testing.T, parts ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
