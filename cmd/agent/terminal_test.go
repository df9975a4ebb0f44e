package main

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// terminal is a shell in a pseudo-terminal, as a person has it.
type terminal struct {
	*host
	cmd    *exec.Cmd
	master *os.File
	ended  chan struct{} // closed when the shell is gone and its output is read

	mu  sync.Mutex
	out bytes.Buffer
}

func (h *host) terminal() *terminal {
	h.t.Helper()
	c := h.command("env", "--default-signal=HUP", "bash", "--norc", "--noprofile", "-i") // these tests may run under nohup
	c.Env = append(c.Env, "PS1=$ ", "TERM=dumb")
	opened, err := pty.Start(c)
	must(h.t, err)
	// A blocking read would keep the descriptor open past Close, and the window could not be closed.
	fd, err := syscall.Dup(int(opened.Fd()))
	must(h.t, err)
	must(h.t, opened.Close())
	must(h.t, syscall.SetNonblock(fd, true))
	master := os.NewFile(uintptr(fd), "terminal")
	term := &terminal{host: h, cmd: c, master: master, ended: make(chan struct{})}
	var read sync.WaitGroup
	read.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.out.Write(buf[:n])
			term.mu.Unlock()
			if err != nil { // EIO: nobody has the other side open any more
				return
			}
		}
	})
	go func() { _ = c.Wait(); read.Wait(); close(term.ended) }()
	h.t.Cleanup(func() { term.hangUp() })
	return term
}

// hangUp closes the window.
func (term *terminal) hangUp() {
	_ = term.master.Close()
	select {
	case <-term.ended:
	case <-time.After(patience):
		_ = term.cmd.Process.Kill()
		term.t.Errorf("the shell does not end: %s", term.text())
	}
}

func (term *terminal) text() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.out.String()
}

// types sends keys: a line with its \n, or a control character.
func (term *terminal) types(keys string) {
	term.t.Helper()
	_, err := term.master.WriteString(keys)
	must(term.t, err)
}

// shows waits for a text that matches and returns its first group.
func (term *terminal) shows(pattern string) string {
	term.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if found := re.FindStringSubmatch(term.text()); found != nil {
			return found[len(found)-1]
		}
		if time.Now().After(deadline) {
			term.t.Fatalf("the terminal does not show %q:\n%s", pattern, term.text())
		}
		<-tick.C
	}
}

// runs starts an agent that stays up in the foreground and returns its socket.
func (term *terminal) runs() (socket string) {
	term.t.Helper()
	term.types("pitboss run --workers 1 --kill-grace 300ms tools.py; echo code=$?\n")
	return term.shows(`socket: (\S+)`)
}

const (
	ctrlC         = "\x03"
	ctrlZ         = "\x1a"
	ctrlBackslash = "\x1c"
)

func TestCtrlCOnceLetsTheCallEnd(t *testing.T) {
	h := newHost(t)
	term := h.terminal()
	socket := term.runs()
	call := h.start(h.command("pitboss", "--socket", socket, "call", "nap", "seconds=1", "file="+h.path("begun")))
	h.awaitFile("begun")
	term.types(ctrlC)
	term.shows(`1 call running, again to kill now`)
	if code := call.exit(); code != 0 {
		t.Errorf("the call ended with %d: %s", code, call.log())
	}
	if code := term.shows(`code=(\d+)`); code != "0" {
		t.Errorf("exit code %s:\n%s", code, term.text())
	}
	if strings.Contains(term.text(), "KeyboardInterrupt") || strings.Contains(term.text(), "agent_pid") {
		t.Errorf("more than a drain:\n%s", term.text())
	}
}

func TestCtrlCTwiceKillsTheCall(t *testing.T) {
	h := newHost(t)
	term := h.terminal()
	socket := term.runs()
	call := h.start(h.command("pitboss", "--socket", socket, "call", "stubborn", "file="+h.path("begun")))
	h.awaitFile("begun")
	term.types(ctrlC)
	term.shows(`1 call running, again to kill now`)
	began := time.Now()
	term.types(ctrlC)
	if code := term.shows(`code=(\d+)`); code != "0" {
		t.Errorf("exit code %s:\n%s", code, term.text())
	}
	if took := time.Since(began); took > 10*time.Second { // the drain alone would be 30 s
		t.Errorf("it took %s", took)
	}
	if code := call.exit(); code != 69 || !strings.Contains(call.log(), "WORKER_DIED") {
		t.Errorf("the call ended with %d: %s", code, call.log())
	}
}

func TestCtrlZAndCtrlBackslashLeaveItServing(t *testing.T) {
	h := newHost(t)
	term := h.terminal()
	socket := term.runs()
	term.types(ctrlZ)
	term.shows(`not stopping for SIGTSTP: a stopped guardian guards nobody`)
	term.types(ctrlBackslash)
	term.shows(`goroutine \d+ \[`)
	if e := h.pitboss("--socket", socket, "call", "add", "a=1", "b=2"); e.stdout != "3\n" {
		t.Errorf("%+v", e)
	}
	term.types(ctrlC)
	if code := term.shows(`code=(\d+)`); code != "0" {
		t.Errorf("exit code %s:\n%s", code, term.text())
	}
}

func TestAClosedTerminalEndsIt(t *testing.T) {
	h := newHost(t)
	term := h.terminal()
	term.runs()
	term.hangUp()
	h.nobodyIsLeft()
}

func TestNohupSurvivesTheTerminal(t *testing.T) {
	h := newHost(t)
	term := h.terminal()
	term.types("nohup pitboss run --workers 1 tools.py > out 2> err & echo pid=$!\n")
	pid, err := strconv.Atoi(term.shows(`pid=(\d+)`))
	must(t, err)
	socket := ""
	h.await("up", func() bool {
		text, _ := os.ReadFile(h.path("out"))
		_, socket, _ = strings.Cut(strings.TrimSpace(string(text)), "socket: ")
		return socket != ""
	})
	term.hangUp()
	if e := h.pitboss("--socket", socket, "call", "add", "a=1", "b=2"); e.stdout != "3\n" {
		t.Errorf("after the hang-up: %+v", e)
	}
	must(t, syscall.Kill(pid, syscall.SIGTERM)) // it still runs, as the call has shown
	h.nobodyIsLeft()
}

// TestInTheBackgroundOfAScript: sh starts a background job with SIGINT ignored; TERM still stops it.
func TestInTheBackgroundOfAScript(t *testing.T) {
	h := newHost(t)
	s := h.start(h.command("sh", "-c", "pitboss run --workers 1 tools.py > out & echo $! > pid; wait $!"))
	h.await("up", func() bool {
		text, _ := os.ReadFile(h.path("out"))
		return strings.Contains(string(text), "socket: ")
	})
	text, err := os.ReadFile(h.path("pid"))
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	_, socket, _ := strings.Cut(strings.TrimSpace(read(t, h.path("out"))), "socket: ")
	must(t, syscall.Kill(pid, syscall.SIGINT))
	if e := h.pitboss("--socket", socket, "call", "add", "a=1", "b=2"); e.stdout != "3\n" {
		t.Errorf("after an ignored INT: %+v", e)
	}
	must(t, syscall.Kill(pid, syscall.SIGTERM))
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d: %s", code, s.log())
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	must(t, err)
	return string(text)
}

// TestAReaderThatLeaves: `2>&1 | head -1` closes the pipe under agent and watchdog; neither dies of it.
func TestAReaderThatLeaves(t *testing.T) {
	h := newHost(t)
	s := h.start(h.command("bash", "-c", "(pitboss run --workers 1 tools.py 2>&1 & echo $! > pid; wait $!; echo $? > code) | { head -1 > first; touch headless; }"))
	h.awaitFile("headless")
	h.await("up", func() bool {
		sockets, _ := os.ReadDir(h.path("pitboss"))
		for _, entry := range sockets {
			if _, err := os.Stat(h.path("pitboss/" + entry.Name() + "/agent.sock")); err == nil {
				e := h.pitboss("--socket", h.path("pitboss/"+entry.Name()+"/agent.sock"), "call", "add", "a=1", "b=2")
				return e.stdout == "3\n"
			}
		}
		return false
	})
	pid, err := strconv.Atoi(strings.TrimSpace(read(t, h.path("pid"))))
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGTERM))
	s.exit()
	if code := strings.TrimSpace(read(t, h.path("code"))); code != "0" {
		t.Errorf("exit code %s; first line %q", code, read(t, h.path("first")))
	}
}

// TestAScriptWithASideCar: an entry point that starts something and then becomes the agent. The side-car is nobody's to kill.
func TestAScriptWithASideCar(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(onePool), 0o644))
	s := h.start(h.command("sh", "-c", "sleep 600 & echo $! > sidecar; exec pitboss agent --config pitboss.yaml"))
	s.awaitReady()
	sidecar, err := strconv.Atoi(strings.TrimSpace(read(t, h.path("sidecar"))))
	must(t, err)
	st, _ := h.status()
	if st.Agent.Tier != "tree" || st.Watchdog.PID == s.cmd.Process.Pid {
		t.Errorf("no inner watchdog: %+v", st)
	}
	must(t, syscall.Kill(st.Agent.PID, syscall.SIGKILL))
	if code := s.exit(); code != 70 || !strings.Contains(s.log(), `"survivors":[]`) {
		t.Errorf("exit code %d: %s", code, s.log())
	}
	if left := h.alive(); len(left) != 1 || left[0] != sidecar {
		t.Errorf("left are %v, want the side-car %d", left, sidecar)
	}
	must(t, syscall.Kill(sidecar, syscall.SIGKILL))
}

// TestAsPID1 of a pid namespace, as in a container without an init.
func TestAsPID1(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(onePool), 0o644))
	s := h.start(h.command("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "pitboss", "agent", "--config", "pitboss.yaml"))
	s.awaitReady()
	if e := h.pitboss("call", "add", "a=1", "b=2"); e.stdout != "3\n" {
		t.Errorf("%+v", e)
	}
	init := children(t, s.cmd.Process.Pid)
	if len(init) != 1 {
		t.Fatalf("children of unshare: %v", init)
	}
	must(t, syscall.Kill(init[0], syscall.SIGTERM))
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d: %s", code, s.log())
	}
}
