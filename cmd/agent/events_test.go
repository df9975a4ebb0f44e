package main

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/client"
)

// elsewhere are the events that other tests of this package bring about.
var elsewhere = map[string]string{
	"agent.swept":              "TestTheNextAgentSweeps",
	"log.dropped":              "TestALogThatNobodyReadsBlocksNothing",
	"pool.limit_not_enforced":  "TestWithoutADelegatedCgroup",
	"worker.release_waited":    "TestAWorkerWaitsForItsPort",
	"worker.release_overdue":   "TestAWorkerWaitsForItsPort",
	"admin.refused":            "TestEveryMethodClassByRealUsers",
	"agent.stray_left":         "TestAProcessOfAnotherUserIsLeftAndNamed",
	"cleanup.denied":           "TestAProcessOfAnotherUserIsLeftAndNamed",
	"cleanup.survivor":         "TestAProcessOfAnotherUserIsLeftAndNamed",
	"worker.unkillable":        "TestAnUnkillableWorkerIsReplaced",
	"pool.launcher.unkillable": "TestALauncherInUninterruptibleSleep",
}

const eventPools = `
pools:
  - name: default
    adapter: tools.py
    workers: 1
    heartbeat: {interval: 1s, timeout: 5s, initial_delay: 0s}
  - name: bad
    adapter: bad.py
    workers: 1
  - name: unloadable
    adapter: tools.py
    preload: [nowhere_at_all]
    workers: 1
`

// events is what `pitboss events --json` prints.
func (h *host) events() (all []client.Event) {
	h.t.Helper()
	e := h.pitboss("events", "--json")
	s := bufio.NewScanner(strings.NewReader(e.stdout))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var event client.Event
		must(h.t, json.Unmarshal(s.Bytes(), &event))
		all = append(all, event)
	}
	return all
}

func (h *host) awaitEvent(seen map[string]bool, name string) {
	h.t.Helper()
	h.await("emitted: "+name, func() bool {
		for _, e := range h.events() {
			seen[e.Name] = true
		}
		return seen[name]
	})
}

// TestEveryEventIsEmitted brings about what is registered, in real processes, and holds that nothing else comes.
func TestEveryEventIsEmitted(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("bad.py"), []byte("raise RuntimeError('no model')\n"), 0o644))
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(eventPools), 0o644))
	start := func() *service {
		s := h.start(h.command("pitboss", "agent", "--config", "pitboss.yaml"))
		h.await("up", func() bool { st, ok := h.status(); return ok && st.Pools[0].State == "ready" })
		return s
	}
	seen := map[string]bool{}
	s := start()
	h.pitboss("call", "default/segfault").want(t, 69)
	for _, name := range []string{"cleanup.completed", "worker.start_failed", "pool.launcher.start_failed"} {
		h.awaitEvent(seen, name)
	}
	h.await("replaced", func() bool { st, ok := h.status(); return ok && st.Pools[0].State == "ready" })
	st, _ := h.status()
	h.pitboss("restart", "--pool", "bad").want(t, 69)
	h.pitboss("restart", "--pool", "default").want(t, 0)
	good := read(t, h.path("pitboss.yaml"))
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte("pools: 1\n"), 0o644))
	h.pitboss("reload").want(t, 78)
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(strings.Replace(good, "workers: 1", "workers: 2", 1)), 0o644))
	h.pitboss("reload").want(t, 0)
	h.pitboss("scale", "default", "1").want(t, 0)
	for _, name := range []string{"pool.restart_failed", "pool.restarted", "agent.reload_failed", "agent.reloaded", "pool.scaled"} {
		h.awaitEvent(seen, name)
	}
	h.await("scaled", func() bool {
		now, ok := h.status()
		return ok && len(now.Pools[0].Workers) == 1 && now.Pools[0].Ready == 1
	})
	st, _ = h.status()
	must(t, syscall.Kill(st.Pools[0].Workers[0].PID, syscall.SIGSTOP))
	h.awaitEvent(seen, "heartbeat.verdict")
	must(t, syscall.Kill(st.Pools[0].Workers[0].PID, syscall.SIGCONT))
	must(t, syscall.Kill(st.Pools[0].LauncherPID, syscall.SIGKILL))
	h.awaitEvent(seen, "pool.launcher.lost")
	must(t, syscall.Kill(st.Watchdog.PID, syscall.SIGSTOP))
	must(t, syscall.Kill(st.Pools[0].Workers[0].PID, syscall.SIGKILL))
	h.awaitEvent(seen, "watchdog.silent")
	must(t, syscall.Kill(st.Watchdog.PID, syscall.SIGCONT))
	h.awaitEvent(seen, "watchdog.armed")
	must(t, syscall.Kill(st.Agent.PID, syscall.SIGKILL))
	if code := s.exit(); code != 70 {
		t.Errorf("exit code %d", code)
	}

	s = start()
	h.awaitEvent(seen, "agent.died")
	if now, _ := h.status(); now.LastDeath == nil || now.LastDeath.RunID != st.Agent.RunID {
		t.Errorf("status says of the last death: %+v", now.LastDeath)
	}
	h.pitboss("stop").want(t, 0)
	s.exit()
	must(t, os.WriteFile(h.path("pitboss/agent/last-death.json"), []byte(`{"schema":1,"run`), 0o600))
	must(t, os.WriteFile(h.path("pitboss/agent/run.jsonl"), []byte("{\n"), 0o600))
	s = start()
	h.awaitEvent(seen, "agent.certificate_refused")
	h.awaitEvent(seen, "agent.sweep_refused")
	h.pitboss("stop").want(t, 0)
	s.exit()

	rare := &seenEvents{names: seen}
	t.Run("rare", rare.rare)
	for name, test := range elsewhere {
		if !testExists(t, test) {
			t.Errorf("%s is to be seen by %s, which is not there", name, test)
		}
	}
	for _, name := range agent.EventNames() {
		if !seen[name] && elsewhere[name] == "" {
			t.Errorf("%s was not emitted", name)
		}
		delete(seen, name)
	}
	if len(seen) != 0 {
		t.Errorf("not registered: %v", seen)
	}
}

// TestFollowersAreToldOfTheEnd: what came before is printed, then the exit code says that the agent is gone.
func TestFollowersAreToldOfTheEnd(t *testing.T) {
	h := newHost(t)
	s := h.serve(onePool)
	out, err := os.Create(h.path("events.out"))
	must(t, err)
	defer out.Close()
	follow := h.command("pitboss", "events", "-f")
	follow.Stdout = out
	f := h.start(follow)
	interrupted := h.start(h.command("pitboss", "logs", "-f"))
	text := func() string { b, _ := os.ReadFile(out.Name()); return string(b) }
	h.await("followed", func() bool { return strings.Contains(text(), "worker.ready") })
	h.pitboss("call", "segfault").want(t, 69)
	h.await("told", func() bool { return strings.Contains(text(), "died by SIGSEGV") })
	must(t, interrupted.cmd.Process.Signal(syscall.SIGINT))
	if code := interrupted.exit(); code != 130 {
		t.Errorf("an interrupted follower ended with %d: %s", code, interrupted.log())
	}
	h.pitboss("logs", "defualt").want(t, 64, `UNKNOWN_POOL: no pool is named "defualt"; there are: default`)
	h.pitboss("logs", "default-9.9").want(t, 64, "UNKNOWN_WORKER")
	h.pitboss("events", "--prefix", "wroker.").want(t, 64, `no event's name begins with "wroker."`, "worker.")
	h.pitboss("stop").want(t, 0)
	if code := f.exit(); code != 69 || !strings.Contains(f.log(), "has ended") || !strings.Contains(text(), "agent.stopped") || !strings.Contains(text(), "agent.stopping") {
		t.Errorf("the follower ended with %d: %s\n%s", code, f.log(), text())
	}
	s.exit()
	h.pitboss("events").want(t, 69, "start one with `pitboss agent`")
}

// TestLogsSayWhereALineCameFrom: a line that a tool prints is kept with its pool, worker and stream, for people and for programs.
func TestLogsSayWhereALineCameFrom(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("tools.py"), []byte("import sys, pitboss\n@pitboss.tool\ndef say(word: str) -> str:\n    print(word, flush=True)\n    print(word + ' again', file=sys.stderr, flush=True)\n    return word\n"), 0o644))
	s := h.serve(onePool)
	st, _ := s.status()
	worker := st.Pools[0].Workers[0].ID
	h.pitboss("call", "say", "word=first").want(t, 0)
	h.pitboss("call", "say", "word=second").want(t, 0)
	for _, args := range [][]string{{"logs", "--json"}, {"logs", "default", "--json"}, {"logs", worker, "--json"}} {
		var lines []client.Line
		h.await("kept", func() bool { // the pipe is read beside the call's answer
			lines = nil
			for text := range strings.Lines(h.pitboss(args...).stdout) {
				var l client.Line
				must(t, json.Unmarshal([]byte(text), &l))
				lines = append(lines, l)
			}
			return len(lines) >= 4
		})
		said, of := map[string]string{}, map[string]uint64{}
		for _, l := range lines {
			of[l.Text] = l.Call
			if l.Pool != "default" || l.Worker != worker {
				t.Errorf("%v: %+v", args, l)
			}
			said[l.Text] = l.Stream
		}
		if of["first"] == 0 || of["first again"] != of["first"] || of["second"] <= of["first"] || of["second again"] != of["second"] {
			t.Errorf("%v: the lines are of the calls %v", args, of)
		}
		if len(lines) != 4 || said["first"] != "stdout" || said["second again"] != "stderr" {
			t.Errorf("%v: %+v", args, lines)
		}
	}
	if e := h.pitboss("logs"); e.code != 0 || strings.Count(e.stdout, worker) != 4 || !strings.Contains(e.stdout, " stdout] second\n") {
		t.Errorf("%+v", e)
	}
	h.pitboss("stop").want(t, 0)
	s.exit()
}

// testExists says whether this package has a test of that name.
func testExists(t *testing.T, name string) bool {
	t.Helper()
	sources, err := filepath.Glob("*_test.go")
	must(t, err)
	for _, source := range sources {
		if strings.Contains(read(t, source), "func "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}
