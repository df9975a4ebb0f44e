//go:build package

package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// container runs a script in a copy of this host's root that is thrown away, with packages in /packages and no service manager, as
// in a container image. It returns what the script printed.
func container(t *testing.T, script string, packages ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this needs root: an overlay over / and a package manager")
	}
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "script"), []byte("set -euo pipefail\ncd /packages\n"+script), 0o644))
	for _, name := range packages {
		run(t, "cp", name, dir)
	}
	c := exec.Command("unshare", "--mount", "--propagation", "private", "bash", "-euc", `
		layers=$(mktemp -d)
		mount -t tmpfs tmpfs "$layers" && mkdir "$layers"/{upper,work,lower,root} && mount --bind / "$layers/lower"
		root=$layers/root
		mount -t overlay overlay -o "lowerdir=$layers/lower,upperdir=$layers/upper,workdir=$layers/work" "$root"
		mkdir "$root/packages" && mount --bind "$1" "$root/packages"
		mount --bind /dev "$root/dev" && mount -t proc proc "$root/proc" && mount -t tmpfs tmpfs "$root/run" && mount -t tmpfs tmpfs "$root/tmp"
		trap 'umount -R "$root" "$layers/lower" "$layers"; rmdir "$layers"' EXIT
		LC_ALL=C chroot "$root" bash /packages/script`, "bash", dir)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// later is the package with a later version and nothing else changed.
func later(t *testing.T, deb string) string {
	t.Helper()
	dir, out := t.TempDir(), filepath.Join(t.TempDir(), "later.deb")
	run(t, "dpkg-deb", "--raw-extract", deb, dir)
	control := filepath.Join(dir, "DEBIAN/control")
	must(t, os.WriteFile(control, []byte(strings.Replace(readFile(t, control), "\nVersion: ", "\nVersion: 9", 1)), 0o644))
	run(t, "dpkg-deb", "--root-owner-group", "--build", dir, out)
	return out
}

// TestTheDebFromInstallationToPurge where no systemd runs: what the scripts leave at each step is looked at there, and every line
// that must not be empty or must not fail ends the script.
func TestTheDebFromInstallationToPurge(t *testing.T) {
	deb := built(t, "pitboss_*_amd64.deb")
	out := container(t, `
		first=$(ls pitboss_*.deb)
		enabled() { systemctl is-enabled "$1" || true; } # its status says disabled and masked, too
		dpkg -i "$first"
		getent passwd pitboss | grep -q ':/var/lib/pitboss:/usr/sbin/nologin$'
		getent group pitboss-clients
		test "$(stat -c '%a %U:%G' /run/pitboss)" = '755 root:root'
		test "$(enabled pitboss.service) $(enabled pitboss.socket)" = 'enabled enabled'
		pitboss config check /etc/pitboss/pitboss.yaml
		echo "-- upgrade of an edited, masked, half disabled one"
		echo '# edited' >> /etc/pitboss/pitboss.yaml
		systemctl disable pitboss.socket pitboss.service
		systemctl mask pitboss.service
		dpkg -i later.deb
		test "$(tail -1 /etc/pitboss/pitboss.yaml)" = '# edited'
		test "$(enabled pitboss.service) $(enabled pitboss.socket)" = 'masked disabled'
		systemctl unmask pitboss.service
		echo "-- removal and reinstallation"
		python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("/run/pitboss/agent.sock")'
		chgrp pitboss-clients /run/pitboss/agent.sock
		dpkg -r pitboss
		test ! -e /run/pitboss && test ! -e /usr/bin/pitboss && test -e /etc/pitboss/pitboss.yaml
		dpkg -i "$first"
		test ! -e /run/pitboss.reinstalled # postinst has taken it
		test "$(enabled pitboss.service)" = disabled
		test "$(tail -1 /etc/pitboss/pitboss.yaml)" = '# edited'
		echo "-- a socket that is not ours, and purge"
		touch /run/pitboss/other
		mkdir -p /var/lib/pitboss /var/lib/pitboss-gpu /var/cache/pitboss /var/cache/pitboss-gpu /var/cache/pitboss-strange
		chown pitboss /var/cache/pitboss-gpu
		touch /var/lib/pitboss/model
		dpkg -P pitboss
		test -e /run/pitboss/other
		test -e /var/lib/pitboss/model && test ! -e /var/lib/pitboss-gpu
		test ! -e /var/cache/pitboss && test ! -e /var/cache/pitboss-gpu && test -e /var/cache/pitboss-strange
		test ! -e /etc/pitboss
		test -z "$(find /etc/systemd /var/lib/systemd -name '*pitboss*')"
		getent passwd pitboss && getent group pitboss && getent group pitboss-clients`, deb, later(t, deb))
	if !strings.Contains(out, "pitboss: /var/lib/pitboss is kept") {
		t.Errorf("nobody is told what purge leaves: %s", out)
	}
}

// TestTheRpmFromInstallationToRemoval where no systemd runs: nothing is enabled, an edited file is kept, the user stays.
func TestTheRpmFromInstallationToRemoval(t *testing.T) {
	need(t, "rpm", "rpm")
	container(t, `
		rpm --nodeps -i *.rpm
		test -z "$(rpm --nodeps -V pitboss)"
		getent passwd pitboss && getent group pitboss-clients
		test "$(stat -c '%a %U:%G' /run/pitboss)" = '755 root:root'
		test "$(systemctl is-enabled pitboss.service pitboss.socket | sort -u)" = disabled || test $? = 1
		test -z "$(find /etc/systemd -name '*pitboss*')"
		echo '# edited' >> /etc/pitboss/pitboss.yaml
		rpm --nodeps -U --replacepkgs *.rpm
		test "$(tail -1 /etc/pitboss/pitboss.yaml)" = '# edited'
		systemctl enable pitboss.service
		rpm -e pitboss
		test "$(tail -1 /etc/pitboss/pitboss.yaml.rpmsave)" = '# edited'
		test ! -e /usr/bin/pitboss && test ! -e /run/pitboss
		test -z "$(find /etc/systemd -name '*pitboss*')"
		getent passwd pitboss`, built(t, "pitboss-*.x86_64.rpm"))
}

// TestTheContainerScriptsCanFail is the control: one false line in the middle fails the whole.
func TestTheContainerScriptsCanFail(t *testing.T) {
	c := exec.Command("bash", "-c", "set -euo pipefail\ntrue\ntest \"$(echo a)\" = b\ntrue")
	if err := c.Run(); err == nil {
		t.Error("a script with a false line passes")
	}
}
