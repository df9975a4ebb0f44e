package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pitboss-run/pitboss/agent/chaos"
)

// below is the command line with these words before it.
func (h *host) below(words []string, args ...string) *exec.Cmd {
	line := append(slices.Clone(words), filepath.Join(binaries, "pitboss"))
	return h.command(line[0], append(line[1:], args...)...)
}

func (h *host) lesser(features ...string) []string {
	return chaos.Lesser(filepath.Join(binaries, "pitboss"), features...)
}

// TestDoctorNamesWhatTheKernelLacks: what is required is a failure, the rest says what is done instead.
func TestDoctorNamesWhatTheKernelLacks(t *testing.T) {
	h := newHost(t)
	for feature, c := range map[string]struct {
		grade grade
		text  string
	}{
		"pidfd_open":                           {gradeFail, "no pidfd_open (Linux 5.3): function not implemented"},
		"pidfd_send_signal=EPERM":              {gradeFail, "no pidfd_send_signal (Linux 5.1): operation not permitted"},
		"waitid:P_PIDFD":                       {gradeFail, "no waitid(P_PIDFD) (Linux 5.4): the kind of id is unknown: invalid argument"},
		"prctl:PR_SET_CHILD_SUBREAPER=EPERM":   {gradeFail, "no prctl(PR_SET_CHILD_SUBREAPER) (Linux 3.4): operation not permitted"},
		"prctl:PR_SET_PDEATHSIG":               {gradeFail, "no prctl(PR_SET_PDEATHSIG)"},
		"memfd_create":                         {gradeWarn, "no memfd_create: function not implemented; crash stacks go to an unlinked file"},
		"close_range=EPERM":                    {gradeWarn, "no close_range: operation not permitted; descriptors are closed one by one"},
		"clone3=EPERM":                         {gradeWarn, "no clone3: operation not permitted; clone does it; but a sandbox that says EPERM"},
		"file:/children":                       {gradeWarn, "no lists of children in /proc: stat /proc/self/task/"},
		"file:/schedstat":                      {gradeWarn, "no schedstat in /proc"},
		"file:/boot_id":                        {gradeWarn, "no boot id"},
		"getsockopt:SO_PEERGROUPS":             {gradeWarn, "no SO_PEERGROUPS"},
		"file:/cgroup.kill":                    {gradeWarn, "no cgroup.kill: no cgroup v2 with this file is mounted"},
		"pidfd_send_signal:group":              {gradeWarn, "no group signals by pidfd: invalid argument"},
		"getsockopt:SO_PEERPIDFD,memfd_create": {gradeWarn, "no SO_PEERPIDFD: protocol not available"},
	} {
		t.Run(feature, func(t *testing.T) {
			d := diagnosisOf(t, h.finish(h.below(h.lesser(strings.Split(feature, ",")...), "doctor", "--json")))
			d.want(t, "kernel", c.grade, c.text)
			if c.grade == gradeFail {
				d.want(t, "tier", gradeFail, "none: no ")
			}
		})
	}
}

// TestStatusSaysWhatTheAgentLacks: the doctor's own process may live in another sandbox than the agent.
func TestStatusSaysWhatTheAgentLacks(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(onePool), 0o644))
	s := h.start(h.below(h.lesser("file:/schedstat", "file:/boot_id", "file:/children", "getsockopt:SO_PEERGROUPS"), "agent", "--config", "pitboss.yaml"))
	s.awaitReady()
	st, _ := s.status()
	want := []string{"no schedstat in /proc: a worker that is silent is held, never found lost or blocked",
		"no boot id: an earlier run's processes are found by their environment only, and get no grace",
		"no SO_PEERGROUPS: callers are known by user and primary group only"}
	if !slices.Equal(st.Agent.Lacks, want) || st.Agent.Tier != "tree" {
		t.Errorf("tier %s, lacks %q, want %q", st.Agent.Tier, st.Agent.Lacks, want)
	}
	h.doctor().want(t, "agent", gradeWarn, "it does without: "+strings.Join(want, "; "))
	must(t, syscall.Kill(st.Agent.PID, syscall.SIGTERM))
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, s.log())
	}
}

// TestAKernelThatIsRefused starts nothing: the refusal names what is missing, for a service and for one call alike.
func TestAKernelThatIsRefused(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(onePool), 0o644))
	for _, args := range [][]string{{"agent", "--config", "pitboss.yaml"}, {"run", "tools.py", "add", "a=1", "b=2"}, {"run", "--watchdog=off", "tools.py", "add", "a=1", "b=2"}} {
		h.finish(h.below(h.lesser("waitid:P_PIDFD"), args...)).want(t, 78, "cannot run on this kernel: no waitid(P_PIDFD) (Linux 5.4): ",
			"run Linux 5.4 or later, or let the sandbox (seccomp) pass this call", "`pitboss doctor`", "!watchdog")
		h.finish(h.below([]string{"unshare", "-m", "sh", "-c", `mount -t tmpfs none /proc && exec "$@"`, "sh"}, args...)).want(t, 78,
			"no proc file system (Linux 1.0): stat /proc/self/stat: no such file or directory; mount it at /proc", "!find our own binary")
	}
}

// TestTheSweepOnAHidingHost: what the next agent can see of an earlier run is enough to end it. hidepid hides other users' processes,
// subset=pid the boot id; the agents are nobody's.
func TestTheSweepOnAHidingHost(t *testing.T) {
	for _, options := range []string{"hidepid=1", "hidepid=2", "hidepid=4", "subset=pid"} {
		t.Run(options, func(t *testing.T) {
			h := newHost(t)
			h.env = append(h.env, "PITBOSS_PYTHON=/usr/bin/python3")
			must(t, os.WriteFile(h.path("escape.py"), []byte(escape), 0o644))
			must(t, os.WriteFile(h.path("pitboss.yaml"), []byte("pools: [{name: default, adapter: escape.py, workers: 1, timeouts: {kill: 300ms}}]\n"), 0o644))
			must(t, os.Chown(h.dir, 65534, 65534))
			words := []string{"unshare", "-m", "sh", "-c", "mount -t proc -o " + options + ` proc /proc && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"`, "sh"}
			s := h.start(h.below(words, "agent", "--config", "pitboss.yaml"))
			s.awaitReady()
			st, _ := s.status()
			daemon := 0
			_, err := fmt.Sscan(h.pitboss("call", "escape").stdout, &daemon)
			must(t, err)
			w := st.Pools[0].Workers[0]
			all := []int{st.Watchdog.PID, st.Agent.PID, st.Pools[0].LauncherPID, w.KeeperPID, w.PID}
			for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} { // stopped first, so that none of them sees another's death
				for _, pid := range all {
					must(t, syscall.Kill(pid, signal))
				}
			}
			s.exit()
			h.await("alone", func() bool { left := h.alive(); return len(left) == 1 && left[0] == daemon })
			next := h.start(h.below(words, "agent", "--config", "pitboss.yaml"))
			next.awaitReady()
			now, _ := next.status()
			if now.Swept == nil || now.Swept.RunID != st.Agent.RunID || now.Swept.Killed != 1 || len(now.Swept.Left) != 0 || slices.Contains(h.alive(), daemon) {
				t.Errorf("swept: %+v; alive %v, the daemon was %d", now.Swept, h.alive(), daemon)
			}
			must(t, syscall.Kill(now.Watchdog.PID, syscall.SIGTERM))
			next.exit()
		})
	}
}
