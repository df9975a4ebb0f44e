//go:build booted

package booted

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestFreshInstall: installed means enabled, running, healthy, and saying what to do next; nothing of it belongs to the service's user
// but its own directories.
func TestFreshInstall(t *testing.T) {
	scenario(t)
	purge(t)
	since := markJournal(t)
	run(t, "dpkg", "-i", deb(t, older))
	for _, unit := range []string{service, socket} {
		unitIs(t, unit, "active")
		enabled(t, unit, "enabled")
	}
	run(t, "pitboss", "health")
	if s := look(t); len(s.Pools) != 0 || s.Agent.State != "running" || s.Watchdog.State != "armed" {
		t.Errorf("%+v", s)
	}
	if said := journal(t, since, service); !strings.Contains(said, "no pool is configured") || !strings.Contains(said, "add one under `pools:`") {
		t.Errorf("the journal does not say how to add a pool:\n%s", said)
	}
	if out := run(t, "pitboss", "status"); !strings.Contains(out, "/etc/pitboss/pitboss.yaml") {
		t.Errorf("the status does not say where to add a pool:\n%s", out)
	}
	if out := run(t, "find", "/usr", "/etc", "/opt", "-xdev", "(", "-user", "pitboss", "-o", "-group", "pitboss", ")"); out != "" {
		t.Errorf("files of the service's user:\n%s", out)
	}
	for dir, want := range map[string]string{"/var/lib/pitboss": "pitboss pitboss 700", "/var/cache/pitboss": "pitboss pitboss 700", "/run/pitboss-agent": "pitboss pitboss 700",
		"/run/pitboss": "root root 755", apiPath: "root pitboss-clients 660"} {
		if got := run(t, "stat", "-c", "%U %G %a", dir); got != want {
			t.Errorf("%s is %s, want %s", dir, got, want)
		}
	}
	// The first pool of a new user of the package: add a file, reload.
	if _, code := try(t, "id", member); code != 0 {
		run(t, "useradd", "--create-home", "--groups", "pitboss-clients", member)
	}
	write(t, poolFile, poolText)
	if out, code := try(t, "systemctl", "reload", service); code != 0 {
		t.Fatalf("%s%s", out, journal(t, since, service))
	}
	ready(t)
	answers(t)
}

// edit is a change of the administrator that must live on.
const edit = "\n# edited by hand\n"

// TestUpgradeRunning: the new version runs, the edited configuration is as it was, and a client that connects in a loop has not noticed.
func TestUpgradeRunning(t *testing.T) {
	before := serving(t)
	const conf = "/etc/pitboss/pitboss.yaml"
	edited := read(t, conf) + edit
	write(t, conf, edited)
	startSecond(t)
	run(t, "systemctl", "start", "pitboss@second.service")
	second := property(t, "pitboss@second.service", "InvocationID")
	end, _ := calling(t)
	run(t, "dpkg", "-i", "--force-confdef", "--force-confold", deb(t, newer))
	await(t, "another agent", func() bool {
		out, code := try(t, "pitboss", "status")
		return code == 0 && !strings.Contains(out, before.Agent.RunID)
	})
	after := ready(t)
	<-time.After(time.Second) // the client shall see the new one at work
	nothingLost(t, "an upgrade of the deb", end())
	if read(t, conf) != edited {
		t.Error("the edited configuration was replaced")
	}
	unitIs(t, "pitboss@second.service", "active")
	if property(t, "pitboss@second.service", "InvocationID") == second {
		t.Error("the instance still runs the old version")
	}
	run(t, "systemctl", "stop", "pitboss@second.service", "pitboss@second.socket")
	nobodyElse(t, after.Agent.RunID)
	unitIs(t, service, "active")
	enabled(t, service, "enabled")
	answers(t)
	if out := property(t, service, "NeedDaemonReload"); out != "no" {
		t.Error("the manager runs on the old units")
	}
}

// TestUpgradeKeeps: what was stopped stays stopped, what was disabled stays disabled, what was masked stays masked.
func TestUpgradeKeeps(t *testing.T) {
	cases := []struct {
		name           string
		before         []string
		state, enabled string
	}{
		{"stopped", []string{"stop", service, socket}, "inactive", "enabled"},
		{"disabled", []string{"disable", "--now", service, socket}, "inactive", "disabled"},
		{"masked", []string{"mask", "--now", service, socket}, "inactive", "masked"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			serving(t)
			run(t, "systemctl", c.before...)
			t.Cleanup(func() {
				run(t, "systemctl", "unmask", service, socket)
				run(t, "systemctl", "enable", service, socket)
			})
			run(t, "dpkg", "-i", deb(t, newer))
			for _, unit := range []string{service, socket} {
				unitIs(t, unit, c.state)
				enabled(t, unit, c.enabled)
			}
			if found := processes(); len(found) != 0 {
				t.Errorf("%v", found)
			}
		})
	}
}

// TestRemoveReinstallPurge: removed means stopped, socket too, with the configuration kept; reinstalled means running again with it;
// purged means that nothing is left but the accounts.
func TestRemoveReinstallPurge(t *testing.T) {
	serving(t)
	const conf = "/etc/pitboss/pitboss.yaml"
	edited := read(t, conf) + edit
	write(t, conf, edited)
	run(t, "dpkg", "--remove", "pitboss")
	for _, unit := range []string{service, socket} {
		unitIs(t, unit, "inactive")
	}
	await(t, "all of it gone", func() bool { return len(processes()) == 0 })
	if _, err := os.Stat(apiPath); err == nil {
		t.Error("the socket is still there")
	}
	if read(t, conf) != edited {
		t.Error("the configuration is not as it was")
	}
	run(t, "dpkg", "-i", "--force-confold", deb(t, newer))
	for _, unit := range []string{service, socket} {
		unitIs(t, unit, "active")
		enabled(t, unit, "enabled")
	}
	if read(t, conf) != edited {
		t.Error("the configuration was replaced")
	}
	ready(t)
	answers(t)
	run(t, "dpkg", "--purge", "pitboss")
	for _, path := range []string{conf, "/usr/bin/pitboss", "/lib/systemd/system/pitboss.service", "/etc/systemd/system/multi-user.target.wants/pitboss.service",
		"/etc/systemd/system/sockets.target.wants/pitboss.socket", "/etc/systemd/system/pitboss.service", "/run/pitboss-agent"} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	run(t, "id", "pitboss")
	run(t, "getent", "group", "pitboss-clients")
}
