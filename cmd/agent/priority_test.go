package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// niceTool tells the niceness of the import, of the worker and of a program that it starts, and the limit that the worker has.
const niceTool = `
import os, resource, subprocess
import pitboss, warm

@pitboss.tool
def nice() -> list:
    return [warm.NICE, os.getpriority(os.PRIO_PROCESS, 0), int(subprocess.check_output(["nice"])), *resource.getrlimit(resource.RLIMIT_NICE)]
`

// nicenesses counts the threads of a process by their niceness, as the kernel has it.
func nicenesses(t *testing.T, pid int) map[int]int {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	must(t, err)
	found := map[int]int{}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		nice, err := strconv.Atoi(fields[16]) // 19 in proc_pid_stat(5)
		must(t, err)
		found[nice]++
	}
	return found
}

// TestGuardiansComeBeforeWhatTheyWatch: watchdog, agent, launcher and keepers have a higher priority than all user code, where they may. Those
// of an unprivileged service, by its limit: packaging/test/vm/guest.
func TestGuardiansComeBeforeWhatTheyWatch(t *testing.T) {
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	must(t, err)
	start := 20 - raw
	for _, c := range []struct {
		name         string
		by           func(*host, *exec.Cmd) *exec.Cmd
		base, raised int
		limit        []int // of the worker, nil for any
		session      bool  // of its own, as a service has
	}{
		{"privileged", func(_ *host, c *exec.Cmd) *exec.Cmd { return c }, start, start - 10, nil, true},
		{"of low priority", func(h *host, c *exec.Cmd) *exec.Cmd { return h.by(c, "nice", "-n", "5") }, start + 5, start - 5, nil, false},
		{"right after another session", func(h *host, c *exec.Cmd) *exec.Cmd {
			own, _ := autogroup(t, os.Getpid())
			_ = os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(own)), 0) // the kernel takes the next one 100 ms later
			return h.by(c, "setpriv", "--bounding-set=-sys_admin")
		}, start, start - 10, nil, true},
		{"without the right", func(h *host, c *exec.Cmd) *exec.Cmd {
			return h.by(h.by(c, "setpriv", "--bounding-set=-sys_nice,-sys_resource"), "prlimit", "--nice=0:0")
		}, start, start, []int{0, 0}, true},
	} {
		for _, method := range []string{"fork", "exec"} {
			t.Run(c.name+", "+method, func(t *testing.T) {
				h := newHost(t)
				must(t, os.WriteFile(h.path("tools.py"), []byte(niceTool), 0o644))
				must(t, os.WriteFile(h.path("warm.py"), []byte("import os\nNICE = os.getpriority(os.PRIO_PROCESS, 0)\n"), 0o644))
				must(t, os.WriteFile(h.path("pitboss.yaml"), []byte("pools: [{name: default, adapter: tools.py, workers: 1, start: "+method+map[string]string{"fork": ", preload: [warm]", "exec": ""}[method]+"}]\n"), 0o644))
				command := c.by(h, h.command("pitboss", "agent", "--config", "pitboss.yaml"))
				command.SysProcAttr = &syscall.SysProcAttr{Setsid: c.session}
				s := h.start(command)
				s.awaitReady()
				st, _ := h.status()
				pool := st.Pools[0]
				if group, ok := autogroup(t, st.Agent.PID); ok {
					worker, _ := autogroup(t, pool.Workers[0].PID)
					want := 0
					if c.session && c.raised != c.base {
						want = -10
					} else if !c.session {
						want, _ = autogroup(t, os.Getpid())
					}
					if group != want || worker != 0 {
						t.Errorf("the agent's session has niceness %d, want %d, and the worker's %d", group, want, worker)
					}
				}
				for name, pid := range map[string]int{"watchdog": st.Watchdog.PID, "agent": st.Agent.PID, "launcher": pool.LauncherPID, "keeper": pool.Workers[0].KeeperPID, "worker": pool.Workers[0].PID} {
					found := nicenesses(t, pid)
					want := c.raised
					if name == "worker" {
						want = c.base
					}
					if name == "agent" && c.raised != c.base { // the thread that starts what is watched
						found[c.base]--
						found[want]++
					}
					if found[want] == 0 || found[want] != total(found) {
						t.Errorf("the %s has threads of niceness %v, want %d", name, found, want)
					}
				}
				var got []int
				must(t, json.Unmarshal([]byte(h.pitboss("call", "nice").stdout), &got))
				if got[0] != c.base || got[1] != c.base || got[2] != c.base {
					t.Errorf("preload, worker and its program have niceness %v, want %d", got[:3], c.base)
				}
				if c.limit != nil && (got[3] != c.limit[0] || got[4] != c.limit[1]) {
					t.Errorf("the worker may raise itself: RLIMIT_NICE is %v, want %v", got[3:], c.limit)
				}
				h.pitboss("stop").want(t, 0)
				s.exit()
			})
		}
	}
	t.Run("the program of run", func(t *testing.T) {
		h := newHost(t)
		must(t, os.WriteFile(h.path("tools.py"), []byte("import pitboss\n@pitboss.tool\ndef one() -> int:\n    return 1\n"), 0o644))
		e := h.pitboss("run", "tools.py", "--", "nice")
		e.want(t, 0)
		if strings.TrimSpace(e.stdout) != strconv.Itoa(start) {
			t.Errorf("niceness %q, want %d", e.stdout, start)
		}
	})
}

// autogroup is the niceness of a process's session; ok is false on a kernel without, and below a process 1 that has never begun a session:
// what is in none shares the processors with the kernel's own threads, and its file is empty.
func autogroup(t *testing.T, pid int) (nice int, ok bool) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/autogroup", pid))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false
	}
	must(t, err)
	if len(text) == 0 {
		return 0, false
	}
	_, after, _ := strings.Cut(string(text), " nice ")
	_, err = fmt.Sscan(after, &nice)
	must(t, err)
	return nice, true
}

func total(counts map[int]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}
