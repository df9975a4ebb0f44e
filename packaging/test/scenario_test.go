//go:build booted

package booted

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	member   = "pitboss-member" // a user in the group of clients
	outsider = "nobody"
	poolFile = "/etc/pitboss/conf.d/default.yaml"
	// The long call of the tests takes 10 s, so the drain must be longer.
	poolText = `pools:
  - name: default
    adapter: ` + share + `/tools.py
    python: ` + share + `/venv/bin/python
    workers: 2
    timeouts: {drain: 15s, kill: 1s}
`
)

// scenario makes sure that what this one leaves behind is nothing: no failed unit, and after the service was stopped no process
// of any run anywhere. Everything that it changed is undone for the next.
func scenario(t *testing.T) {
	t.Helper()
	since := markJournal(t)
	t.Cleanup(func() {
		defer func() {
			if t.Failed() {
				t.Logf("the journal of this scenario:\n%.8000s", journal(t, since, service))
			}
		}()
		for _, line := range strings.Split(run(t, "systemctl", "list-units", "--failed", "--plain", "--no-legend"), "\n") {
			if line != "" {
				t.Errorf("failed unit: %s", line)
			}
		}
		units := strings.Fields(run(t, "bash", "-c", "systemctl list-units --plain --no-legend --state=active,activating,failed 'pitboss*' | cut -d' ' -f1"))
		if len(units) > 0 {
			run(t, "systemctl", append([]string{"stop"}, units...)...)
		}
		await(t, "no process of any run", func() bool { return len(processes()) == 0 })
		try(t, "systemctl", "reset-failed")
		must(t, os.RemoveAll("/run/systemd/system/pitboss.service.d"))
		_ = os.Remove(poolFile)
		run(t, "systemctl", "daemon-reload")
	})
}

// purge removes the package and what only an administrator would have made.
func purge(t *testing.T) {
	t.Helper()
	try(t, "systemctl", "unmask", service, socket)
	try(t, "dpkg", "--purge", "pitboss")
	must(t, os.RemoveAll("/etc/pitboss"))
}

// deb is a package for this machine, of the older or the newer version.
func deb(t *testing.T, version string) string {
	t.Helper()
	return one(t, version+"/pitboss_*_"+run(t, "dpkg", "--print-architecture")+".deb")
}

// The directories of both versions.
const (
	older = "old"
	newer = "new"
)

// serving is the package, freshly installed if it is not there, with one pool of two workers that take calls.
func serving(t *testing.T) status {
	t.Helper()
	scenario(t)
	is, _ := try(t, "dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", "pitboss")
	if is != "installed "+run(t, "dpkg-deb", "--field", deb(t, older), "Version") {
		purge(t)
		run(t, "dpkg", "-i", deb(t, older))
	}
	return serve(t)
}

// serve starts what is installed with the pool.
func serve(t *testing.T) status {
	t.Helper()
	if _, code := try(t, "id", member); code != 0 {
		run(t, "useradd", "--create-home", "--groups", "pitboss-clients", member)
	}
	must(t, os.MkdirAll(filepath.Dir(poolFile), 0o755))
	write(t, poolFile, poolText)
	run(t, "systemctl", "start", socket)
	run(t, "systemctl", "restart", service)
	return ready(t)
}

// ready waits until calls are taken, and returns what is there then.
func ready(t *testing.T) status {
	t.Helper()
	run(t, "pitboss", "wait", "--timeout", patience.String())
	return look(t)
}

// status is the part of `pitboss status --json` that is used here.
type status struct {
	Agent struct {
		PID    int    `json:"pid"`
		RunID  string `json:"run_id"`
		State  string `json:"state"`
		Socket string `json:"socket"`
	} `json:"agent"`
	Watchdog struct {
		PID   int    `json:"pid"`
		State string `json:"state"`
	} `json:"watchdog"`
	Pools []struct {
		Name        string `json:"name"`
		State       string `json:"state"`
		Ready       int    `json:"ready"`
		Busy        int    `json:"busy"`
		Desired     int    `json:"desired"`
		LauncherPID int    `json:"launcher_pid"`
		Workers     []struct {
			ID        string `json:"id"`
			PID       int    `json:"pid"`
			KeeperPID int    `json:"keeper_pid"`
			State     string `json:"state"`
		} `json:"workers"`
	} `json:"pools"`
}

func look(t *testing.T) status {
	t.Helper()
	out, err := exec.Command("pitboss", "status", "--json").Output()
	must(t, err)
	var s status
	must(t, json.Unmarshal(out, &s))
	return s
}

// call runs a tool as a member of the clients' group, and returns what was printed and the exit code.
func call(t *testing.T, args ...string) (string, int) {
	t.Helper()
	out, code := as(t, member, append([]string{"pitboss", "call"}, args...)...)
	return strings.TrimSpace(out), code
}

// answers fails unless a call is answered.
func answers(t *testing.T) {
	t.Helper()
	if out, code := call(t, "add", "a=2", "b=3"); code != 0 || out != "5" {
		t.Errorf("add: %q, exit %d", out, code)
	}
}

// pending is a call that goes on.
type pending struct {
	cmd  *exec.Cmd
	out  *strings.Builder
	done chan struct{} // closed when it has ended
}

// begin starts a call and waits until a worker runs it.
func begin(t *testing.T, args ...string) *pending {
	t.Helper()
	busy := look(t).Pools[0].Busy
	p := &pending{exec.Command("runuser", append([]string{"-u", member, "--", "pitboss", "call"}, args...)...), &strings.Builder{}, make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	must(t, p.cmd.Start())
	go func() { defer close(p.done); _ = p.cmd.Wait() }()
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); <-p.done })
	await(t, "the call runs", func() bool { return look(t).Pools[0].Busy > busy })
	return p
}

// end waits until the call has ended.
func (p *pending) end(t *testing.T) (string, int) {
	t.Helper()
	await(t, "the call ends", func() bool {
		select {
		case <-p.done:
			return true
		default:
			return false
		}
	})
	return strings.TrimSpace(p.out.String()), p.cmd.ProcessState.ExitCode()
}

// dropIn changes the unit until the end of the scenario.
func dropIn(t *testing.T, text string) {
	t.Helper()
	must(t, os.MkdirAll("/run/systemd/system/pitboss.service.d", 0o755))
	write(t, "/run/systemd/system/pitboss.service.d/test.conf", text)
	run(t, "systemctl", "daemon-reload")
}
