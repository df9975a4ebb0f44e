package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pitboss-run/pitboss/agent"
)

const listens = `
import os, socket
import pitboss

listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))

@pitboss.tool
def port() -> int:
    return listener.getsockname()[1]
`

// TestAWorkerWaitsForItsPort: the ports of two pools are in use by somebody else. Status and events say by whom; one worker starts by
// itself when its port is free, the other's limit passes before, and a call fails at once.
func TestAWorkerWaitsForItsPort(t *testing.T) {
	h := newHost(t)
	config := "pools:\n"
	var held []net.Listener
	var ports []string
	for name, timeout := range map[string]string{"patient": "60s", "hasty": "1s"} {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		must(t, err)
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		held, ports = append(held, l), append(ports, port)
		config += fmt.Sprintf("  - {name: %s, adapter: tools.py, workers: 1, env: {PORT: \"%s\"}, release: {ports: [%s], timeout: %s}}\n", name, port, port, timeout)
	}
	must(t, os.WriteFile(h.path("tools.py"), []byte(listens), 0o644))
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(config), 0o644))
	s := h.start(h.command("pitboss", "agent", "--config", "pitboss.yaml"))
	var pools map[string]agent.PoolStatus
	look := func() {
		st, _ := h.status()
		pools = map[string]agent.PoolStatus{}
		for _, p := range st.Pools {
			pools[p.Name] = p
		}
	}
	holder := fmt.Sprintf(" (pid %d (", os.Getpid())
	h.await("seen waiting", func() bool {
		look()
		return pools["hasty"].State == "failed" && len(pools["patient"].Waiting) == 1 && strings.Contains(pools["patient"].Waiting[0].String(), holder)
	})
	if e := h.pitboss("status"); strings.Count(e.stdout, "\n  worker 0 waits for port ") != 2 || !strings.Contains(e.stdout, "not free after 1s: port ") || strings.Count(e.stdout, holder) != 3 {
		t.Errorf("%s", e.stdout)
	}
	h.pitboss("call", "hasty/port").want(t, exitUnavailable, "not free after 1s: port ", holder)
	for _, l := range held {
		must(t, l.Close())
	}
	h.await("ready by itself", func() bool { look(); return pools["patient"].State == "ready" })
	h.pitboss("restart", "--pool", "hasty").want(t, 0) // nobody waits 30 s for the next look
	for name := range pools {
		if e := h.pitboss("call", name+"/port"); e.code != 0 || !slices.Contains(ports, strings.TrimSpace(e.stdout)) {
			t.Errorf("%s: %+v", name, e)
		}
	}
	seen := map[string]bool{}
	h.awaitEvent(seen, "worker.release_overdue")
	h.awaitEvent(seen, "worker.release_waited")
	h.pitboss("stop").want(t, 0)
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
