package main

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestEachWitnessOfTheParentsEnd is enough by itself: the watchdog's pidfd, and the end of the pipe on standard input.
func TestEachWitnessOfTheParentsEnd(t *testing.T) {
	t.Run("pidfd", func(t *testing.T) {
		h := newHost(t)
		shell := h.command("sh", "-c", `"$0" run --die-with-parent --kill-grace 200ms --workers 1 tools.py < /dev/null & wait`, filepath.Join(binaries, "pitboss"))
		must(t, shell.Start())
		h.await("up", func() bool { return len(h.alive()) == 6 }) // the shell, watchdog, agent, launcher, keeper, worker
		must(t, shell.Process.Kill())
		_ = shell.Wait()
		h.nobodyIsLeft()
	})
	t.Run("pipe", func(t *testing.T) {
		h := newHost(t)
		c := h.command("pitboss", "run", "--die-with-parent", "--kill-grace", "200ms", "--workers", "1", "tools.py")
		in, err := c.StdinPipe()
		must(t, err)
		s := h.start(c)
		h.pitboss("--socket", h.privateSocket(), "wait").want(t, 0)
		if n := len(h.alive()); n != 5 {
			t.Errorf("%d processes, want 5", n)
		}
		_, err = io.WriteString(in, "what is written means nothing\n")
		must(t, err)
		must(t, in.Close())
		if code := s.exit(); code != 0 {
			t.Errorf("exit code %d: %s", code, s.log())
		}
		h.nobodyIsLeft()
	})
	t.Run("no witness", func(t *testing.T) { // the control: without the flag neither ends it
		h := newHost(t)
		c := h.command("pitboss", "run", "--kill-grace", "200ms", "--workers", "1", "tools.py")
		in, err := c.StdinPipe()
		must(t, err)
		s := h.start(c)
		h.await("up", func() bool { return len(h.alive()) == 5 })
		must(t, in.Close())
		pid := s.cmd.Process.Pid
		if e := h.pitboss("--socket", h.privateSocket(), "call", "add", "a=1", "b=2"); e.stdout != "3\n" || syscall.Kill(pid, 0) != nil {
			t.Errorf("%+v", e)
		}
	})
}

// TestAParentDeathSignalIsKept: it is a thread's, and pitboss becomes the watchdog by exec, twice. Many at once, so that some would come
// off their main thread.
func TestAParentDeathSignalIsKept(t *testing.T) {
	const agents = 24
	h := newHost(t)
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte("pools: [{name: default, adapter: tools.py, workers: 1, timeouts: {kill: 200ms}}]\n"), 0o644))
	shell := h.command("sh", "-c", `for n in $(seq "$1"); do setpriv --pdeathsig KILL "$0" agent --config pitboss.yaml --socket "$n.sock" --runtime-dir "run-$n" 2> /dev/null & done; wait`,
		filepath.Join(binaries, "pitboss"), strconv.Itoa(agents))
	must(t, shell.Start())
	h.await("up", func() bool { return len(h.alive()) == 1+5*agents }) // the shell; watchdog, agent, launcher, keeper, worker
	must(t, shell.Process.Kill())
	_ = shell.Wait()
	h.nobodyIsLeft()
}

// privateSocket finds the socket of the one `run` of this host.
func (h *host) privateSocket() string {
	h.t.Helper()
	var found []string
	h.await("a socket", func() bool {
		found, _ = filepath.Glob(h.path("pitboss/run-*/agent.sock"))
		return len(found) == 1
	})
	return found[0]
}

func TestDieWithParentIsRefusedWithoutAWatchdog(t *testing.T) {
	h := newHost(t)
	h.pitboss("run", "--die-with-parent", "--watchdog", "off", "tools.py", "add", "a=1", "b=2").want(t, 64, "needs the watchdog")
}

// TestWhereAUserFindsTheAgent: a user without a runtime directory finds its own agent, else the system's, never a stranger's.
func TestWhereAUserFindsTheAgent(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	h.bare()
	must(t, os.Chmod(h.dir, 0o777))
	asNobody := func(args ...string) ended {
		c := as(h.command("pitboss", args...))
		c.Env = append(c.Env, "PATH=/usr/bin:/bin")
		return h.finish(c)
	}
	system := func(e ended, socket string) { // 77 where the system's directory is its user's alone
		t.Helper()
		if (e.code != 69 && e.code != 77) || !strings.Contains(e.stderr, `agent at "`+socket+`"`) {
			t.Errorf("%+v", e)
		}
	}
	system(asNobody("status"), "/run/pitboss/agent.sock")
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(onePool), 0o644))
	agent := as(h.command("pitboss", "agent", "--config", "pitboss.yaml"))
	agent.Env = append(agent.Env, "PATH=/usr/bin:/bin")
	s := h.start(agent)
	system(asNobody("--instance", "other", "status"), "/run/pitboss/other.sock")
	c := as(h.command("pitboss", "--socket", h.path("pitboss-65534/agent.sock"), "wait"))
	h.finish(c).want(t, 0)
	e := asNobody("call", "add", "a=1", "b=2")
	e.want(t, 0)
	if e.stdout != "3\n" {
		t.Errorf("%+v\n%s", e, s.log())
	}
	must(t, os.Chmod(h.path("pitboss-65534"), 0o777))
	asNobody("status").want(t, 77, "it must be a directory of ours that nobody else can write")
}
