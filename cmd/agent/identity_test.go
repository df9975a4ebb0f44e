package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pitboss-run/pitboss/agent/client"
)

// changing is a tool whose child has become another user's.
const changing = `
import os, time
import pitboss

@pitboss.tool
def change() -> int:
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.setresuid(65533, 65533, 65533)
        os.write(into, b"x")
        while True:
            time.sleep(60)
    os.read(out, 1)
    return pid

@pitboss.tool
def one() -> int:
    return 1
`

// withoutCapKill starts a command without the right to signal other users' processes, as every unprivileged agent is.
func (h *host) withoutCapKill(c *exec.Cmd) *exec.Cmd {
	h.t.Helper()
	return h.by(c, "setpriv", "--bounding-set=-kill")
}

// by starts a command through another one, which executes it.
func (h *host) by(c *exec.Cmd, name string, args ...string) *exec.Cmd {
	h.t.Helper()
	path, err := exec.LookPath(name)
	must(h.t, err)
	c.Args = slices.Concat([]string{path}, args, []string{c.Path}, c.Args[1:])
	c.Path = path
	return c
}

// changed calls the tool and returns its child and the worker's pid.
func (h *host) changed() (other, worker int) {
	h.t.Helper()
	_, err := fmt.Sscan(h.pitboss("call", "change").stdout, &other)
	must(h.t, err)
	st, ok := h.status()
	if !ok {
		h.t.Fatal("no status")
	}
	for _, w := range st.Pools[0].Workers {
		for _, pid := range children(h.t, w.PID) {
			if pid == other {
				return other, w.PID
			}
		}
	}
	h.t.Fatalf("process %d is no worker's child", other)
	return 0, 0
}

func (h *host) eventOf(name string) (found client.Event) {
	h.t.Helper()
	h.await(name, func() bool {
		for _, e := range h.events() {
			if e.Name == name {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// wantFields fails for each text that the fields of an event do not have.
func wantFields(t *testing.T, e client.Event, texts ...string) {
	t.Helper()
	fields, err := json.Marshal(e)
	must(t, err)
	for _, text := range texts {
		if !strings.Contains(string(fields), text) {
			t.Errorf("%s has no %s: %s", e.Name, text, fields)
		}
	}
}

// TestAProcessOfAnotherUserIsLeftAndNamed: what an unprivileged agent may not kill holds up nobody, and every guardian it falls to says
// who it is: the event of the refusal, the result of the clean-up, the log, the certificate.
func TestAProcessOfAnotherUserIsLeftAndNamed(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("changing.py"), []byte(changing), 0o644))
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte("pools: [{name: default, adapter: changing.py, workers: 2, timeouts: {kill: 300ms}}]\n"), 0o644))
	s := h.start(h.withoutCapKill(h.command("pitboss", "agent", "--config", "pitboss.yaml")))
	s.awaitReady()
	other, worker := h.changed()
	defer func() { must(t, syscall.Kill(other, syscall.SIGKILL)) }()
	pid := fmt.Sprintf(`:%d`, other)
	must(t, syscall.Kill(worker, syscall.SIGKILL))
	wantFields(t, h.eventOf("cleanup.denied"), pid, "cannot send KILL: operation not permitted")
	wantFields(t, h.eventOf("cleanup.survivor"), pid, "cannot send KILL: operation not permitted")
	wantFields(t, h.eventOf("cleanup.completed"), `"none"`, fmt.Sprintf("%d (cannot send KILL: operation not permitted; state S", other))
	s.awaitReady()
	st, ok := h.status()
	if !ok {
		t.Fatal("no status")
	}
	// The launcher forks on, and does not wait for it. One worker's successor: the launcher of a whole restart would be a new one.
	h.pitboss("restart", st.Pools[0].Workers[0].ID).want(t, 0)
	must(t, syscall.Kill(st.Pools[0].LauncherPID, syscall.SIGKILL))
	wantFields(t, h.eventOf("agent.stray_left"), pid, "operation not permitted")
	s.awaitReady()
	h.pitboss("call", "one").want(t, 0)
	if used := cpuTicks(t, st.Agent.PID); used > 1000 {
		t.Errorf("the agent has used %d ticks: it spins", used)
	}

	must(t, syscall.Kill(st.Agent.PID, syscall.SIGKILL))
	if code := s.exit(); code != 70 {
		t.Errorf("exit code %d", code)
	}
	for _, text := range []string{`"survivor_count":1`, fmt.Sprintf(`{"pid":%d,`, other), `"errno":1}`, `"proof":"none"`} {
		if !strings.Contains(s.log(), text) {
			t.Errorf("the certificate has no %s:\n%s", text, s.log())
		}
	}
}

func cpuTicks(t *testing.T, pid int) (ticks int) {
	t.Helper()
	text := read(t, fmt.Sprintf("/proc/%d/stat", pid))
	for _, field := range strings.Fields(text[strings.LastIndexByte(text, ')')+1:])[11:13] {
		n := 0
		_, err := fmt.Sscan(field, &n)
		must(t, err)
		ticks += n
	}
	return ticks
}

// TestACgroupEndsAProcessOfAnotherUser: cgroup.kill asks nobody's permission, so there it is ended at once and the proof holds.
func TestACgroupEndsAProcessOfAnotherUser(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("escape.py"), []byte(changing), 0o644))
	dir := h.delegated()
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(cgroupPool), 0o644))
	c := h.withoutCapKill(h.command("pitboss", "agent", "--config", "pitboss.yaml"))
	d, err := os.Open(dir)
	must(t, err)
	defer d.Close()
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(d.Fd())}
	s := h.start(c)
	s.awaitReady()
	other, worker := h.changed()
	must(t, syscall.Kill(worker, syscall.SIGKILL))
	wantFields(t, h.eventOf("cleanup.denied"), fmt.Sprintf(`:%d`, other))
	wantFields(t, h.eventOf("cleanup.completed"), "ECHILD+populated 0")
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", other)); err == nil {
		t.Errorf("process %d is left", other)
	}
	h.pitboss("stop").want(t, 0)
	s.exit()
}
