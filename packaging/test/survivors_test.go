//go:build booted

package booted

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// process is one that belongs to an agent, now or once.
type process struct {
	pid     int
	run     string // PITBOSS_RUN_ID of its environment, "" for watchdog and agent
	cgroup  string
	command string
}

func (p process) String() string {
	return fmt.Sprintf("%d %q run=%q %s", p.pid, p.command, p.run, p.cgroup)
}

// processes finds them by what the kernel says alone: the run id in the environment, which every descendant of a launcher carries
// wherever it has gone, or a cgroup of one of our units.
func processes() (found []process) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		env, _ := os.ReadFile(dir + "/environ")
		cgroup, err := os.ReadFile(dir + "/cgroup")
		if err != nil {
			continue // it is gone
		}
		p := process{cgroup: strings.TrimSpace(string(cgroup[strings.LastIndex(strings.TrimSpace(string(cgroup)), "\n")+1:]))}
		for _, kv := range strings.Split(string(env), "\x00") {
			if v, ok := strings.CutPrefix(kv, "PITBOSS_RUN_ID="); ok {
				p.run = v
			}
		}
		if p.run == "" && !strings.Contains(p.cgroup, "pitboss") {
			continue
		}
		command, _ := os.ReadFile(dir + "/cmdline")
		p.command = strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " "))
		p.pid, _ = strconv.Atoi(filepath.Base(dir))
		found = append(found, p)
	}
	return found
}

// strangers are the processes that carry a run id other than these.
func strangers(living ...string) []process {
	return slices.DeleteFunc(processes(), func(p process) bool { return p.run == "" || slices.Contains(living, p.run) })
}

// nobodyElse waits until only processes of this run are left, of those that carry a run id.
func nobodyElse(t *testing.T, run string) {
	t.Helper()
	await(t, "no process of an earlier run", func() bool { return len(strangers(run)) == 0 })
}

// TestControl: the scan finds a process that has left its session and whose parent is gone, and one that only a cgroup gives away.
func TestControl(t *testing.T) {
	cmd := exec.Command("setsid", "--fork", "sleep", "3600")
	cmd.Env = append(os.Environ(), "PITBOSS_RUN_ID=x")
	must(t, cmd.Run())
	run(t, "systemd-run", "--quiet", "--unit", "pitboss-control", "sleep", "3601")
	var byRun, byCgroup *process
	await(t, "both planted processes found", func() bool {
		for _, p := range processes() {
			switch { // systemd-run writes the whole path
			case strings.HasSuffix(p.command, "sleep 3600"):
				byRun = &p
			case strings.HasSuffix(p.command, "sleep 3601"):
				byCgroup = &p
			}
		}
		return byRun != nil && byCgroup != nil
	})
	if byRun.run != "x" || len(strangers("y")) != 1 || len(strangers("x")) != 0 {
		t.Errorf("%v; strangers %v", byRun, strangers("y"))
	}
	if byCgroup.run != "" {
		t.Errorf("%v", byCgroup)
	}
	must(t, syscall.Kill(byRun.pid, syscall.SIGKILL))
	run(t, "systemctl", "stop", "pitboss-control.service")
	await(t, "the scan is empty again", func() bool { return len(processes()) == 0 })
}
