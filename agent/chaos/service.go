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

// manage binds the notification socket in the round's directory.
func (r *Round) manage() *manager {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	r.Must(err)
	r.Must(errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1), unix.Bind(fd, &unix.SockaddrUnix{Name: r.File("notify")})))
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
	r.Cleanup(func() { _ = unix.Shutdown(fd, unix.SHUT_RD); <-ended; _ = unix.Close(fd) })
	return m
}

// serviceScenarios: what the service manager of a host does.
func serviceScenarios() []Scenario {
	return []Scenario{
		{Name: "service-manager", What: "socket activation, sd_notify, a watchdog timer, and an agent that is stopped for longer than its timeout",
			Expect: "the manager hears from the process that it started and from nobody else; 0 kills", Rounds: 1, Waits: true, Run: underAServiceManager},
		{Name: "abort", What: "ABRT to the watchdog, as a service manager's watchdog timer sends it", Expect: "the agent's stacks in the log, a certificate, an empty tree",
			Rounds: 1, Long: 5, Run: abort},
		{Name: "watchdog-lost-mid-call", What: "SIGKILL of the watchdog, calls that never end, nobody who hurries", Expect: "the agent drains as long as it may, then ends everything",
			Rounds: 1, Long: 5, Waits: true, Run: func(r *Round) { watchdogLost(r, "mid-call") }},
		{Name: "watchdog-lost-mid-stream", What: "the same with streams that never end", Expect: "the agent drains as long as it may, then ends everything",
			Rounds: 1, Long: 5, Waits: true, Run: func(r *Round) { watchdogLost(r, "mid-stream") }},
	}
}

func underAServiceManager(round *Round) {
	m := round.manage()
	l, err := net.Listen("unix", round.File("api"))
	round.Must(err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	f, err := l.(*net.UnixListener).File()
	round.Must(err)
	_ = l.Close()
	round.Cleanup(func() { _ = f.Close() })
	r := startVictims(round, false, func(o *Options) {
		o.Before = []string{"/bin/sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh"}
		o.Env = append(o.Env, "LISTEN_FDS=1", "LISTEN_FDNAMES=api", "NOTIFY_SOCKET="+round.File("notify"), "WATCHDOG_USEC=600000")
		o.Config += "watchdog: {agent_timeout: 3s}\n"
		o.Change = func(c *exec.Cmd) { c.ExtraFiles = []*os.File{f} }
	})
	own := r.agent.Socket
	r.agent.Socket = r.File("api")
	r.descend()
	r.agent.Ready() // over the inherited socket
	main := fmt.Sprint(r.agent.Watchdog.PID)
	r.Until("READY=1", func() bool { return m.count(main+" READY=1") == 1 })
	if _, err := os.Stat(own); err == nil {
		r.Errorf("the agent made a socket of its own beside the inherited one")
	}
	all := map[int]bool{}
	for _, w := range r.workers {
		all[w.PID] = true
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", w.PID))
		r.Must(err)
		for _, name := range []string{"NOTIFY_SOCKET=", "LISTEN_FDS=", "LISTEN_PID=", "WATCHDOG_USEC=", "PITBOSS_LISTEN_FDS=", "PITBOSS_GUARD_FD="} {
			if strings.Contains("\x00"+string(env), "\x00"+name) {
				r.Errorf("worker %d was given %s", w.PID, name)
			}
		}
	}
	r.wantAnswer(r.call(poolA, "who"), all, "a call over the inherited socket")

	r.agent.Process.Kill(syscall.SIGSTOP)
	before := m.count(main + " WATCHDOG=1")
	r.Until("life of the guardian over two agent timeouts", func() bool { return m.count(main+" WATCHDOG=1") > before+30 }) // 200 ms each
	if !strings.Contains(r.agent.Log(), "stopped; leaving it alone") {
		r.Errorf("no verdict on the stopped agent%s", r.logs())
	}
	r.agent.Process.Kill(syscall.SIGCONT)
	r.wantAnswer(r.call(poolB, "who"), all, "a call after the agent was stopped for six seconds")
	r.wantAlive("stop")

	r.agent.Watchdog.Kill(syscall.SIGTERM)
	r.Empty(limit)
	if code := r.agent.ExitCode(); code != 0 {
		r.Errorf("exit code %d after a stop%s", code, r.logs())
	}
	r.Until("STOPPING=1", func() bool { return m.count(main+" STOPPING=1") > 0 })
	m.mu.Lock()
	defer m.mu.Unlock()
	stopping := 0
	for _, line := range m.heard {
		if !strings.HasPrefix(line, main+" ") {
			r.Errorf("heard %q from another process than %s", line, main)
		}
		if strings.HasSuffix(line, " STOPPING=1") {
			stopping++
		}
	}
	if stopping != 1 {
		r.Errorf("STOPPING=1 was said %d times", stopping)
	}
}

func abort(round *Round) {
	r := startVictims(round, false)
	r.descend()
	r.enter("mid-call")
	r.moment = time.Now()
	r.agent.Watchdog.Kill(syscall.SIGABRT)
	r.Empty(2*time.Second + limit)
	code := r.agent.ExitCode()
	r.checkGraces()
	log := r.agent.Log()
	for _, want := range []string{"SIGABRT: abort", "agent.(*Agent).beatLoop", "agent.(*pool).run", `"cause":"abort"`} {
		if !strings.Contains(log, want) {
			r.Errorf("the log has no %q:\n%s", want, log)
		}
	}
	if code != 70 {
		r.Errorf("exit code %d, want 70", code)
	}
}

// watchdogLost: the agent drains for as long as the configuration says, ends its workers, and exits by itself.
func watchdogLost(round *Round, phase string) {
	r := startVictims(round, false)
	r.descend()
	r.enter(phase)
	r.moment = time.Now()
	r.agent.Watchdog.Kill(syscall.SIGKILL)
	if took := r.Empty(drain + grace + limit); took < drain {
		r.Errorf("the drain lasted %s, it may last %s: calls were cut", took, drain)
	}
	r.checkGraces()
}
