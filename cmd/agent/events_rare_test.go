package main

import (
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// rareEvents are the events that need a host of their own to come about, each with what brings it about.
var rareEvents = map[string]struct {
	config string
	files  fileTexts
	do     func(t *testing.T, h *host, s *service)
}{
	"agent.no_pools": {config: "pools: []\n"},
	"agent.stop_ordered agent.stopping agent.stopped": {config: onePool, do: func(t *testing.T, h *host, s *service) {
		out, err := os.Create(h.path("followed"))
		must(t, err)
		defer out.Close()
		follow := h.command("pitboss", "events", "-f", "--json")
		follow.Stdout = out
		f := h.start(follow)
		h.await("followed", func() bool { return strings.Contains(read(t, out.Name()), "worker.ready") })
		h.pitboss("stop").want(t, 0)
		s.exit()
		f.exit()
	}},
	"pool.fork_refused": {config: "pools: [{name: default, adapter: tools.py, workers: 1, preload: [threaded]}]\n",
		files: fileTexts{"threaded.py": "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n"}},
	"heartbeat.reported": {config: "pools: [{name: default, adapter: mute.py, workers: 1, heartbeat: {interval: 1s, timeout: 5s, initial_delay: 0s, on_lost: report}}]\n",
		files: fileTexts{"mute.py": holdsItsLock}, do: func(t *testing.T, h *host, _ *service) { h.pitboss("call", "mute").want(t, 0) }},
	"pool.launcher.late": {config: "pools: [{name: default, adapter: tools.py, workers: 1, timeouts: {start: 1s}}]\n",
		do: func(t *testing.T, h *host, _ *service) {
			st, _ := h.status()
			must(t, syscall.Kill(st.Pools[0].LauncherPID, syscall.SIGSTOP))
			must(t, syscall.Kill(st.Pools[0].Workers[0].PID, syscall.SIGKILL))
		}},
	"pool.launcher.killed": {config: onePool, do: func(t *testing.T, h *host, _ *service) {
		st, _ := h.status()
		must(t, syscall.Kill(st.Pools[0].LauncherPID, syscall.SIGSTOP))
		h.pitboss("restart", "--pool", "default").want(t, 0)
	}},
	"keeper.killed": {config: onePool, do: func(t *testing.T, h *host, _ *service) {
		st, _ := h.status()
		must(t, syscall.Kill(st.Pools[0].Workers[0].KeeperPID, syscall.SIGSTOP))
		must(t, syscall.Kill(st.Pools[0].Workers[0].PID, syscall.SIGKILL))
	}},
	"agent.stray_killed": {config: "pools: [{name: default, adapter: escape.py, workers: 1, timeouts: {kill: 300ms}}]\n",
		files: fileTexts{"escape.py": escape}, do: func(t *testing.T, h *host, _ *service) {
			h.pitboss("call", "escape").want(t, 0)
			st, _ := h.status()
			must(t, syscall.Kill(st.Pools[0].LauncherPID, syscall.SIGKILL)) // the keeper falls to the agent
			h.await("a new launcher", func() bool {
				now, ok := h.status()
				return ok && now.Pools[0].LauncherPID != 0 && now.Pools[0].LauncherPID != st.Pools[0].LauncherPID
			})
			must(t, syscall.Kill(st.Pools[0].Workers[0].KeeperPID, syscall.SIGKILL)) // and what escaped from its worker too
		}},
	"watchdog.lost": {config: "watchdog: {on_loss: continue}\npools: [{name: default, adapter: tools.py, workers: 1, guard: group}]\n",
		do: func(t *testing.T, h *host, _ *service) {
			st, _ := h.status()
			must(t, syscall.Kill(st.Watchdog.PID, syscall.SIGKILL))
		}},
}

// fileTexts are texts by name.
type fileTexts map[string]string

// holdsItsLock ends the worker's answers without ending, stopping or occupying it: a thread sleeps in C with the interpreter's lock.
const holdsItsLock = `
import ctypes, threading, time, pitboss

def hold():
    time.sleep(0.2)
    ctypes.PyDLL(None).sleep(3600)

@pitboss.tool
def mute() -> None:
    threading.Thread(target=hold, daemon=True).start()
`

// seenEvents are the names that came, of all hosts of a test.
type seenEvents struct {
	mu    sync.Mutex
	names map[string]bool
}

func (s *seenEvents) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[name] = true
}

// rare brings about every rare event, side by side: most of the time each waits for a deadline.
func (seen *seenEvents) rare(t *testing.T) {
	for names, c := range rareEvents {
		t.Run(names, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			for name, text := range c.files {
				must(t, os.WriteFile(h.path(name), []byte(text), 0o644))
			}
			must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(c.config), 0o644))
			s := h.start(h.command("pitboss", "agent", "--config", "pitboss.yaml"))
			h.await("up", func() bool {
				st, ok := h.status()
				return ok && (len(st.Pools) == 0 || st.Pools[0].State == "ready")
			})
			pid := 0
			if st, ok := h.status(); ok {
				pid = st.Agent.PID
			}
			if c.do != nil {
				c.do(t, h, s)
			}
			for _, name := range strings.Fields(names) {
				h.await(name, func() bool {
					if strings.Contains(s.log()+followed(h), name) {
						seen.add(name)
						return true
					}
					for _, e := range h.events() {
						seen.add(e.Name)
						if e.Name == name {
							return true
						}
					}
					return false
				})
			}
			_ = syscall.Kill(pid, syscall.SIGTERM) // where its watchdog is gone nobody passes the service's on
			h.await("nobody left", func() bool { return len(h.alive()) == 0 })
		})
	}
}

func followed(h *host) string {
	text, err := os.ReadFile(h.path("followed"))
	if err != nil {
		return ""
	}
	return string(text)
}
