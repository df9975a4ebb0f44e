package chaos

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager receives notifications as a service manager does, with the sender that the kernel names.
type manager struct {
	mu    sync.Mutex
	heard []string // "PID line"
}

func (m *manager) count(line string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, h := range m.heard {
		if h == line {
			n++
		}
	}
	return n
}

// manage binds the notification socket in the run's directory.
func (r *run) manage() *manager {
	r.t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(r.t, err)
	must(r.t, errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1), unix.Bind(fd, &unix.SockaddrUnix{Name: r.file("notify")})))
	m := &manager{}
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
			messages, err := unix.ParseSocketControlMessage(oob[:oobn])
			if err != nil || len(messages) != 1 {
				continue
			}
			cred, err := unix.ParseUnixCredentials(&messages[0])
			if err != nil {
				continue
			}
			m.mu.Lock()
			for _, line := range strings.Split(string(buf[:n]), "\n") {
				m.heard = append(m.heard, fmt.Sprintf("%d %s", cred.Pid, line))
			}
			m.mu.Unlock()
		}
	}()
	r.t.Cleanup(func() { _ = unix.Shutdown(fd, unix.SHUT_RD); <-ended; _ = unix.Close(fd) })
	return m
}

// TestUnderAServiceManager: socket activation, notifications with NotifyAccess=main, a watchdog timer, and an agent that is
// stopped for longer than its timeout: the service manager never hears but from the process that it started.
func TestUnderAServiceManager(t *testing.T) {
	var m *manager
	r := start(t, false, func(r *run) {
		m = r.manage()
		l, err := net.Listen("unix", r.file("api"))
		must(t, err)
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		f, err := l.(*net.UnixListener).File()
		must(t, err)
		_ = l.Close()
		t.Cleanup(func() { _ = f.Close() })
		again := exec.Command("/bin/sh", append([]string{"-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, r.cmd.Args...)...)
		again.Env = append(r.cmd.Env, "LISTEN_FDS=1", "LISTEN_FDNAMES=api", "NOTIFY_SOCKET="+r.file("notify"), "WATCHDOG_USEC=600000")
		again.SysProcAttr, again.Stdout, again.Stderr, again.ExtraFiles = r.cmd.SysProcAttr, r.cmd.Stdout, r.cmd.Stderr, []*os.File{f}
		r.cmd, r.socket = again, r.file("api")
		config, err := os.ReadFile(r.file("config.yaml"))
		must(t, err)
		r.write("config.yaml", string(config)+"watchdog: {agent_timeout: 3s}\n")
	})
	r.descend()
	r.awaitReady() // over the inherited socket
	main := fmt.Sprint(r.watchdog.pid)
	r.until("READY=1", func() bool { return m.count(main+" READY=1") == 1 })
	if _, err := os.Stat(r.file("s")); err == nil {
		t.Error("the agent made a socket of its own beside the inherited one")
	}
	all := map[int]bool{}
	for _, w := range r.workers {
		all[w.pid] = true
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", w.pid))
		must(t, err)
		for _, name := range []string{"NOTIFY_SOCKET=", "LISTEN_FDS=", "LISTEN_PID=", "WATCHDOG_USEC=", "PITBOSS_LISTEN_FDS=", "PITBOSS_GUARD_FD="} {
			if strings.Contains("\x00"+string(env), "\x00"+name) {
				t.Errorf("worker %d was given %s", w.pid, name)
			}
		}
	}
	r.wantAnswer(r.call(poolA, "who"), all, "a call over the inherited socket")

	r.agent.kill(syscall.SIGSTOP)
	before := m.count(main + " WATCHDOG=1")
	r.until("life of the guardian over two agent timeouts", func() bool { return m.count(main+" WATCHDOG=1") > before+30 }) // 200 ms each
	if !strings.Contains(r.log(), "stopped; leaving it alone") {
		t.Errorf("no verdict on the stopped agent; log:\n%s", r.log())
	}
	r.agent.kill(syscall.SIGCONT)
	r.wantAnswer(r.call(poolB, "who"), all, "a call after the agent was stopped for six seconds")
	r.wantAlive("stop")

	r.watchdog.kill(syscall.SIGTERM)
	left, _ := r.tree.WaitEmpty(limit)
	if len(left) > 0 {
		t.Fatalf("%v are left; log:\n%s", left, r.log())
	}
	<-r.waited
	if code := r.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d after a stop; log:\n%s", code, r.log())
	}
	r.until("STOPPING=1", func() bool { return m.count(main+" STOPPING=1") > 0 })
	m.mu.Lock()
	defer m.mu.Unlock()
	stopping := 0
	for _, line := range m.heard {
		if !strings.HasPrefix(line, main+" ") {
			t.Errorf("heard %q from another process than %s", line, main)
		}
		if strings.HasSuffix(line, " STOPPING=1") {
			stopping++
		}
	}
	if stopping != 1 {
		t.Errorf("STOPPING=1 was said %d times", stopping)
	}
}

// TestAbortShowsTheStacksOfTheAgent: ABRT to the watchdog is how a service manager ends a service that it thinks hangs.
func TestAbortShowsTheStacksOfTheAgent(t *testing.T) {
	r := start(t, false)
	r.descend()
	r.enter("mid-call")
	r.moment = time.Now()
	r.watchdog.kill(syscall.SIGABRT)
	left, took := r.tree.WaitEmpty(2*time.Second + limit)
	if len(left) > 0 {
		t.Fatalf("%v are left after %s; log:\n%s", left, took, r.log())
	}
	<-r.waited
	r.checkGraces(&cell{})
	log := r.log()
	for _, want := range []string{"SIGABRT: abort", "agent.(*Agent).beatLoop", "agent.(*pool).run", `"cause":"abort"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %q:\n%s", want, log)
		}
	}
	if code := r.cmd.ProcessState.ExitCode(); code != 70 {
		t.Errorf("exit code %d, want 70", code)
	}
}
