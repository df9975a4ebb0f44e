//go:build booted

package booted

import (
	"os"
	"strings"
	"testing"
	"time"
)

// rpmDo runs rpm beside the dependencies that this host has as Debian packages.
func rpmDo(t *testing.T, args ...string) {
	t.Helper()
	out := run(t, "rpm", append([]string{"--nodeps", "--force-debian"}, args...)...)
	for _, line := range strings.Split(out, "\n") {
		if strings.Contains(line, "scriptlet failed") {
			t.Errorf("%s", line)
		}
	}
}

func rpmFile(t *testing.T, version string) string {
	t.Helper()
	return one(t, version+"/pitboss-*."+strings.TrimSpace(run(t, "uname", "-m"))+".rpm")
}

// TestRPM is a life of the rpm: its scriptlets with $1 = 1, 2 and 0. Each step goes on where the last one ended.
func TestRPM(t *testing.T) {
	scenario(t)
	const conf = "/etc/pitboss/pitboss.yaml"
	t.Run("install", func(t *testing.T) {
		rpmDo(t, "-i", rpmFile(t, older))
		for _, unit := range []string{service, socket} {
			unitIs(t, unit, "inactive")  // installed is neither running …
			enabled(t, unit, "disabled") // … nor enabled, there
		}
		run(t, "getent", "passwd", "pitboss")
		run(t, "getent", "group", "pitboss-clients")
		if got := run(t, "stat", "-c", "%U %G %a", "/run/pitboss"); got != "root root 755" {
			t.Errorf("/run/pitboss: %s", got)
		}
	})
	t.Run("enable", func(t *testing.T) {
		run(t, "systemctl", "enable", "--now", socket, service)
		serve(t)
		answers(t)
	})
	t.Run("upgrade running", func(t *testing.T) {
		before := look(t)
		edited := read(t, conf) + edit
		write(t, conf, edited)
		end, _ := calling(t)
		rpmDo(t, "-U", rpmFile(t, newer))
		await(t, "another agent", func() bool {
			out, code := try(t, "pitboss", "status")
			return code == 0 && !strings.Contains(out, before.Agent.RunID)
		})
		after := ready(t)
		<-time.After(time.Second) // the client shall see the new one at work
		nothingLost(t, "an upgrade of the rpm", end())
		if read(t, conf) != edited {
			t.Error("the edited configuration was replaced")
		}
		nobodyElse(t, after.Agent.RunID)
		enabled(t, service, "enabled")
		answers(t)
	})
	t.Run("upgrade stopped", func(t *testing.T) {
		run(t, "systemctl", "disable", "--now", socket, service)
		rpmDo(t, "-U", "--oldpackage", rpmFile(t, older))
		for _, unit := range []string{service, socket} {
			unitIs(t, unit, "inactive")
			enabled(t, unit, "disabled")
		}
	})
	t.Run("upgrade masked", func(t *testing.T) {
		run(t, "systemctl", "mask", socket, service)
		rpmDo(t, "-U", rpmFile(t, newer))
		for _, unit := range []string{service, socket} {
			unitIs(t, unit, "inactive")
			enabled(t, unit, "masked")
		}
		run(t, "systemctl", "unmask", socket, service)
	})
	t.Run("erase", func(t *testing.T) {
		run(t, "systemctl", "enable", "--now", socket, service)
		ready(t)
		rpmDo(t, "-e", "pitboss")
		for _, unit := range []string{service, socket} {
			unitIs(t, unit, "inactive")
		}
		await(t, "all of it gone", func() bool { return len(processes()) == 0 })
		for _, path := range []string{apiPath, "/usr/bin/pitboss", "/etc/systemd/system/multi-user.target.wants/pitboss.service",
			"/etc/systemd/system/sockets.target.wants/pitboss.socket"} {
			if _, err := os.Lstat(path); err == nil {
				t.Errorf("%s is left", path)
			}
		}
		if !strings.HasSuffix(read(t, conf+".rpmsave"), edit) {
			t.Error("the edited configuration is lost")
		}
		run(t, "getent", "passwd", "pitboss") // never removed: files may be its
	})
}
