package watchdog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// serviceManager receives notifications as systemd does with NotifyAccess=main: it asks the kernel who sent each one.
type serviceManager struct {
	address string
	heard   *lines // "PID text", one line per line of a notification
}

func startServiceManager(t *testing.T) *serviceManager {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") // a short path: an address has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	m := &serviceManager{address: filepath.Join(dir, "s"), heard: &lines{more: make(chan struct{})}}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1), unix.Bind(fd, &unix.SockaddrUnix{Name: m.address}))
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
		for {
			n, oobn, _, _, err := unix.Recvmsg(fd, buf, oob, 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil || n == 0 {
				return
			}
			pid := int32(-1)
			if messages, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(messages) == 1 {
				if cred, err := unix.ParseUnixCredentials(&messages[0]); err == nil {
					pid = cred.Pid
				}
			}
			for _, line := range strings.Split(string(buf[:n]), "\n") {
				m.heard.add(fmt.Sprintf("%d %s", pid, line), false)
			}
		}
	}()
	t.Cleanup(func() {
		_ = unix.Shutdown(fd, unix.SHUT_RD) // wakes the receiver
		<-ended
		_ = unix.Close(fd)
		_ = os.RemoveAll(dir)
	})
	return m
}

func (m *serviceManager) env(more ...string) []string {
	return append([]string{envNotify + "=" + m.address}, more...)
}

func (m *serviceManager) count(text string) int {
	return strings.Count("\n"+m.heard.String()+"\n", text+"\n")
}

// onlyFrom: every notification came from this process.
func (m *serviceManager) onlyFrom(t *testing.T, pid int) {
	t.Helper()
	for _, line := range strings.Split(m.heard.String(), "\n") {
		if !strings.HasPrefix(line, strconv.Itoa(pid)+" ") {
			t.Errorf("%q is not from the main process %d; heard:\n%s", line, pid, m.heard)
		}
	}
}

func TestNotificationsComeFromTheMainProcess(t *testing.T) {
	m := startServiceManager(t)
	tr := startTree(t, script{Hello: true, Beat: 50 * time.Millisecond, Notify: "READY=1\nWATCHDOG=1\nEXTEND_TIMEOUT_USEC=1\nSTOPPING=1\nSTATUS=serving"},
		options{env: m.env()})
	tr.ready(0)
	m.heard.wait(t, " READY=1", 1)
	m.heard.wait(t, " STATUS=serving", 1)
	tr.signal(syscall.SIGTERM)
	tr.exit(0)
	m.heard.wait(t, " STOPPING=1", 1)
	m.onlyFrom(t, tr.cmd.Process.Pid)
	if m.count(" STOPPING=1") != 1 || m.count(" WATCHDOG=1") != 0 || m.count(" EXTEND_TIMEOUT_USEC=1") != 0 || m.count(" READY=1") != 1 {
		t.Errorf("heard:\n%s", m.heard)
	}
}

// The guardian's sign of life goes on while the agent is stopped: it is held, not hung.
func TestTheGuardianLivesWhileTheAgentIsStopped(t *testing.T) {
	m := startServiceManager(t)
	tr := startTree(t, script{Hello: true, Beat: 50 * time.Millisecond}, options{env: m.env("WATCHDOG_USEC=300000"), flags: quick().flags})
	tr.ready(0)
	m.heard.wait(t, " WATCHDOG=1", 3)
	tr.signalAgent(syscall.SIGSTOP)
	tr.stderr.wait(t, "stopped; leaving it alone", 1)
	m.heard.wait(t, " WATCHDOG=1", m.count(" WATCHDOG=1")+20) // 2 s: four agent timeouts
	tr.signalAgent(syscall.SIGCONT)
	tr.stderr.wait(t, "beats again", 1)
	tr.signal(syscall.SIGTERM)
	tr.exit(0)
	tr.noCertificate()
	m.onlyFrom(t, tr.cmd.Process.Pid)
}

// Of five draining beats two bring the number of calls down.
func TestTimeIsAskedForWithProgressOnly(t *testing.T) {
	m := startServiceManager(t)
	tr := startTree(t, script{Hello: true, Grace: time.Second, Beat: 50 * time.Millisecond, Draining: []int64{3, 3, 2, 2, 1}}, options{env: m.env(), flags: []string{"--stop-timeout", "20s"}})
	tr.ready(0)
	tr.signal(syscall.SIGTERM)
	tr.exit(0)
	m.heard.wait(t, "EXTEND_TIMEOUT_USEC=", 2)
	if n := strings.Count(m.heard.String(), "EXTEND_TIMEOUT_USEC="); n != 2 || m.count(" STOPPING=1") != 1 {
		t.Errorf("heard:\n%s", m.heard)
	}
	_, text, _ := strings.Cut(m.heard.wait(t, "EXTEND_TIMEOUT_USEC=", 1), "=")
	if us, err := strconv.Atoi(text); err != nil || us < 20_000_000 || us > 26_000_000 {
		t.Errorf("asks for %q µs, want what is left of 20 s, the grace of 1 s and 5 s", text)
	}
	m.onlyFrom(t, tr.cmd.Process.Pid)
}

// A listening socket that LISTEN_PID addresses to the watchdog reaches the agent at the same number, under our own names, and
// nothing else of the service manager's does.
func TestListenersAreHandedOn(t *testing.T) {
	m := startServiceManager(t)
	listener := listeningSocket(t)
	tr := startTree(t, script{Hello: true, Beat: 50 * time.Millisecond, Report: true},
		options{env: m.env("WATCHDOG_USEC=3000000", "LISTEN_FDS=1", "LISTEN_FDNAMES=api"), shell: `LISTEN_PID=$$ exec "$@"`, files: []*os.File{listener}})
	tr.ready(0)
	for _, want := range []string{"env PITBOSS_LISTEN_FDS=1", "env PITBOSS_LISTEN_FDNAMES=api", "env PITBOSS_GUARD_FD=4", "fd 3 socket", "fd 4 socket"} {
		if !tr.stdout.has(want) {
			t.Errorf("the agent reports no %q", want)
		}
	}
	for _, banned := range []string{"env LISTEN_", "env WATCHDOG_", "env NOTIFY_", "fd 5", "env PITBOSS_TUNED"} {
		if tr.stdout.has(banned) {
			t.Errorf("the agent reports %q", banned)
		}
	}
	tr.signal(syscall.SIGTERM)
	tr.exit(0)
}

func TestListenersOfAnotherProcessAreNot(t *testing.T) {
	listener := listeningSocket(t)
	tr := startTree(t, script{Hello: true, Beat: 50 * time.Millisecond, Report: true},
		options{env: []string{"LISTEN_FDS=1", "LISTEN_PID=1"}, files: []*os.File{listener}})
	tr.ready(0)
	if tr.stdout.has("LISTEN") || !tr.stdout.has("env PITBOSS_GUARD_FD=3") {
		t.Error("the agent was given what is not addressed to the watchdog")
	}
	tr.signal(syscall.SIGTERM)
	tr.exit(0)
}

func listeningSocket(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: "@watchdog-test-" + strconv.Itoa(os.Getpid()) + t.Name()}), unix.Listen(fd, 1))
	}
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "listener")
	t.Cleanup(func() { _ = f.Close() })
	return f
}
