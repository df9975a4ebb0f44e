package main

import (
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// documentedWith are the commands whose help names a code, each as a line that works with an agent of tools.py: its first
// example, but for names and files that are not there.
func documentedWith(t *testing.T, code int) (lines map[string][]string) {
	t.Helper()
	instead := map[string]string{
		"call": "call add a=1 b=2", "explain": "explain 1", "cancel": "cancel 1", "ping": "ping default-0.1", "stack": "stack default-0.1",
		"agent": "agent --config pitboss.yaml", "run": "run tools.py add a=1 b=2", "wait": "wait --timeout 30s --json", "health": "health --json",
		"stop": "stop --json", "drain": "drain", "restart": "restart --pool default", "completion": "completion bash",
		"verify": "verify --list", "config": "config", "config check": "config check pitboss.yaml", "config show": "config show --config pitboss.yaml", "config defaults": "config defaults",
	}
	lines = map[string][]string{}
	for path, codes := range commandExits {
		name := strings.TrimPrefix(path, "pitboss ")
		if _, documented := codes[code]; !documented || name == "pitboss" {
			continue
		}
		line, ok := instead[name]
		if !ok {
			c, _, err := newRoot(&global{stdout: os.Stdout}).Find(strings.Fields(name))
			must(t, err)
			line, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(c.Example), "pitboss "), "\n")
		}
		lines[name] = strings.Fields(line)
	}
	if len(lines) < 5 {
		t.Fatalf("only %d commands can end with %d", len(lines), code)
	}
	return lines
}

// TestWrongFlagsEndEveryCommandAsDocumented with 64.
func TestWrongFlagsEndEveryCommandAsDocumented(t *testing.T) {
	h := newHost(t)
	for name, line := range documentedWith(t, exitUsage) {
		if name != "help" { // which takes them for words
			h.pitboss(append(strings.Fields(name), append([]string{"--no-such-flag"}, line[len(strings.Fields(name)):]...)...)...).want(t, 64, "unknown flag: --no-such-flag")
		}
	}
}

// TestWithoutAnAgentEveryCommandEndsAsDocumented with 69, or with 77 where the agent is somebody else's.
func TestWithoutAnAgentEveryCommandEndsAsDocumented(t *testing.T) {
	h := newHost(t)
	must(t, os.Chmod(h.dir, 0o755))
	must(t, os.Mkdir(h.path("theirs"), 0o700))
	foreign, err := net.Listen("unix", h.path("theirs/agent.sock"))
	must(t, err)
	defer foreign.Close()
	for name, line := range documentedWith(t, exitUnavailable) {
		if name == "run" || name == "agent" || name == "bench" { // which start one
			continue
		}
		if name == "wait" {
			line = []string{"wait", "--timeout", "200ms"}
		}
		h.pitboss(line...).want(t, 69, "no agent at", "start one with `pitboss agent`")
		c := h.command("pitboss", append([]string{"--socket", foreign.Addr().String()}, line...)...)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		h.finish(c).want(t, 77, "ask its owner for access")
	}
}

// TestAFullDiskEndsEveryCommandAsDocumented with 1, whatever it prints.
func TestAFullDiskEndsEveryCommandAsDocumented(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("tools.py"), []byte(read(t, h.path("tools.py"))+"\n\n@pitboss.tool\ndef say() -> None:\n    print(1)\n"), 0o644))
	h.serve(onePool)
	h.pitboss("call", "say").want(t, 0)
	h.await("kept", func() bool { return h.pitboss("logs").stdout != "" })
	lines := documentedWith(t, exitFailed)
	nap := h.start(h.command("pitboss", "call", "nap", "seconds=600", "file="+h.path("begun"))) // call 2, for cancel
	h.awaitFile("begun")
	lines["cancel"] = []string{"cancel", "2"}
	order := []string{"calls", "cancel", "restart", "drain", "resume"} // these first: the state that each leaves is the next one's
	for name := range lines {
		if !slices.Contains(append([]string{"agent", "ping", "stack"}, order...), name) {
			order = append(order, name)
		}
	}
	for _, name := range append(order, "ping", "stack") {
		if name == "ping" || name == "stack" {
			h.pitboss("wait").want(t, 0)
			st, _ := (&service{host: h}).status()
			lines[name][1] = st.Pools[0].Workers[0].ID
		}
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		must(t, err)
		c := h.command("pitboss", lines[name]...)
		c.Stdout = full
		h.finish(c).want(t, 1, "no space left on device")
		full.Close()
	}
	if code := nap.exit(); code != 130 {
		t.Errorf("the call that was cancelled ended with %d: %s", code, nap.log())
	}
}

// TestARunThatCannotListenSaysSo, whatever it was for.
func TestARunThatCannotListenSaysSo(t *testing.T) {
	h := newHost(t)
	for _, rest := range [][]string{{"add", "a=1", "b=2"}, {"--", "true"}, nil} {
		h.pitboss(append([]string{"run", "--socket", "nowhere/agent.sock", "tools.py"}, rest...)...).want(t, 69, "nowhere/agent.sock", "no such file or directory")
	}
}

// TestAnInterruptEndsEveryCommandAsDocumented with 130, while an agent that says nothing lets it wait.
func TestAnInterruptEndsEveryCommandAsDocumented(t *testing.T) {
	h := newHost(t)
	mute, err := net.Listen("unix", h.path("mute.sock"))
	must(t, err)
	defer mute.Close()
	for name, line := range documentedWith(t, exitInterrupted) {
		if name == "run" {
			must(t, os.WriteFile(h.path("slow.py"), []byte("import time\nopen('begun', 'w').close()\ntime.sleep(600)\n"), 0o644))
			s := h.start(h.command("pitboss", "run", "slow.py", "add"))
			h.awaitFile("begun")
			must(t, s.cmd.Process.Signal(syscall.SIGINT))
			if code := s.exit(); code != 130 {
				t.Errorf("run ended with %d: %s", code, s.log())
			}
			continue
		}
		if name == "bench" || name == "verify" {
			line := map[string][]string{"bench": {"bench", "--calls", "1000000"}, "verify": {"verify", "--rounds", "1000", "--only", "kill-agent-idle"}}[name]
			s := h.start(h.command("pitboss", line...))
			h.await("its worker", func() bool { return len(h.alive()) >= 6 }) // itself, watchdog, agent, launcher, keeper and worker
			must(t, s.cmd.Process.Signal(syscall.SIGINT))
			if code := s.exit(); code != 130 {
				t.Errorf("%s ended with %d: %s", name, code, s.log())
			}
			continue
		}
		if name == "health" {
			h.pitboss("--socket", h.path("mute.sock"), "health", "--timeout", "200ms").want(t, 75, "did not answer within 200ms")
			conn, err := mute.Accept()
			must(t, err)
			defer conn.Close()
			line = append(line, "--timeout", "10m")
		}
		s := h.start(h.command("pitboss", append([]string{"--socket", h.path("mute.sock")}, line...)...))
		conn, err := mute.Accept() // it asks by now: its handler of signals was there before
		must(t, err)
		must(t, s.cmd.Process.Signal(syscall.SIGINT))
		if code := s.exit(); code != 130 {
			t.Errorf("%s ended with %d: %s", name, code, s.log())
		}
		conn.Close()
	}
}
