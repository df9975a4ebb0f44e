package watchdog

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

// The test binary plays the agents, children and strangers: `binary role=NAME JSON`.

// script is what a played agent does, in the order of the fields.
type script struct {
	Hello    bool
	Version  string        // of HELLO; "" is ours
	Grace    time.Duration // of HELLO
	Children []string      // kinds of children, see playChild
	// GuardChildren guards the direct ones.
	GuardChildren bool
	Guards        int    // GUARD messages with made-up numbers and one real pidfd
	Pool          string // cgroup directory of a POOL
	Notify        string
	Stopping      time.Duration // STOPPING
	Beat          time.Duration // beat this often; 0 never
	Draining      []int64       // after TERM, one draining beat with each of these
	Wrong         bool          // say everything that must be refused, see sayWrong
	DeafLink      bool          // never read an answer, but ask many questions
	CloseLink     bool
	OnTERM        string // "bye" (default), "ignore", "default"
	OnABRT        string // "ignore", else Go's own
	Memory        int    // MiB that a core dump has to write
	Hang          string // at SIGUSR2: "burn" a processor or "sleep" for ever, "work" and beat, or "dump" core
	Report        bool   // say what environment and descriptors arrived
	ExitNow       bool   // do not serve
	Bye           int    // exit code; announced when there was a HELLO
	NoBye         bool
}

func playRole(role, arg string) int {
	switch role {
	case "agent":
		var s script
		if err := json.Unmarshal([]byte(arg), &s); err != nil {
			panic(err)
		}
		return (&player{script: s}).play()
	case "child":
		return playChild(arg)
	case "tracer":
		return playTracer(arg)
	case "parent":
		return playParent(arg)
	case "spin":
		return playSpinner()
	case "load":
		return playLoad(arg)
	}
	panic("unknown role " + role)
}

// say writes one line to standard output in one write.
func say(format string, args ...any) {
	_, _ = unix.Write(1, []byte(fmt.Sprintf(format, args...)+"\n"))
}

type player struct {
	script script
	fd     int
	seq    uint64
}

func (p *player) play() int {
	s := p.script
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT)
	if s.OnTERM == "default" {
		signal.Reset(syscall.SIGTERM)
	}
	if s.OnABRT == "ignore" {
		signal.Notify(signals, syscall.SIGABRT)
	}
	p.fd = -1
	if text := os.Getenv(envGuard); text != "" {
		_, _ = fmt.Sscan(text, &p.fd)
		unix.CloseOnExec(p.fd)
	}
	if text := os.Getenv(envLock); text != "" {
		var fd int
		_, _ = fmt.Sscan(text, &fd)
		unix.CloseOnExec(fd)
	}
	if s.Report {
		report()
	}
	p.talk()
	for _, kind := range s.Children {
		if s.Beat > 0 {
			p.tell(ipc.GuardMessage{Kind: ipc.GuardBeat}) // starting children takes its time
		}
		pid := startChild(kind)
		if s.GuardChildren {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				panic(err)
			}
			m := p.ask(ipc.GuardMessage{Kind: ipc.GuardGuard, Flags: uint16(ipc.RoleWorker), PID: uint32(pid), Text: "child"}, fd)
			_ = unix.Close(fd)
			say("guarded child %v", m.Kind)
		}
	}
	memory := make([]byte, s.Memory<<20)
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
		if i&(1<<22-1) == 0 {
			p.tell(ipc.GuardMessage{Kind: ipc.GuardBeat})
			p.dropAnswers()
		}
	}
	say("agent %d ready", os.Getpid())
	if !s.ExitNow {
		p.serve(signals)
	}
	runtime.KeepAlive(memory)
	if s.Hello && !s.NoBye {
		p.tell(ipc.GuardMessage{Kind: ipc.GuardBye, Value: int64(s.Bye)})
	}
	return s.Bye
}

// talk says what the script wants said before serving.
func (p *player) talk() {
	s := p.script
	if p.fd < 0 {
		return
	}
	if s.Hello {
		version := s.Version
		if version == "" {
			version = ipc.Version
		}
		m := p.ask(ipc.GuardMessage{Kind: ipc.GuardHello, Value: s.Grace.Microseconds(), Text: version + " run-1"})
		say("hello %v %d %s", m.Kind, m.Value, m.Text)
	}
	if s.Wrong {
		p.sayWrong()
	}
	if s.Guards > 0 {
		p.guardMany(s.Guards)
	}
	if s.Pool != "" {
		kill, err := unix.Open(s.Pool+"/cgroup.kill", unix.O_WRONLY|unix.O_CLOEXEC, 0)
		events, err2 := unix.Open(s.Pool+"/cgroup.events", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil || err2 != nil {
			panic(fmt.Sprint(err, err2))
		}
		m := p.ask(ipc.GuardMessage{Kind: ipc.GuardPool, Text: "default"}, kill, events)
		say("pool %v", m.Kind)
	}
	if s.Notify != "" {
		p.tell(ipc.GuardMessage{Kind: ipc.GuardNotify, Text: s.Notify})
	}
	if s.Stopping > 0 {
		p.tell(ipc.GuardMessage{Kind: ipc.GuardStopping, Value: s.Stopping.Microseconds()})
	}
	if s.DeafLink {
		for i := 0; ; i++ {
			p.seq++
			err := ipc.SendPacket(p.fd, ipc.GuardMessage{Kind: ipc.GuardRelease, PID: 1, Seq: p.seq}.Append(nil), nil)
			if err == ipc.ErrWouldBlock {
				say("deaf after %d", i)
				break
			}
		}
	}
	if s.CloseLink {
		_ = unix.Close(p.fd)
		p.fd = -1
	}
}

// guardMany sends one pidfd (of our parent, which outlives us) under many numbers.
func (p *player) guardMany(n int) {
	fd, err := unix.PidfdOpen(os.Getppid(), 0)
	if err != nil {
		panic(err)
	}
	for i := range n {
		role := ipc.RoleKeeper
		if i%2 == 1 {
			role = ipc.RoleWorker
		}
		m := p.ask(ipc.GuardMessage{Kind: ipc.GuardGuard, Flags: uint16(role), PID: uint32(1_000_000 + i), Text: fmt.Sprintf("default-%d.1", i/2)}, fd)
		if m.Kind != ipc.GuardAck {
			say("guard %d %v %d %s", i, m.Kind, m.Value, m.Text)
			return
		}
	}
	_ = unix.Close(fd)
	say("guarded %d", n)
}

// sayWrong sends one message of each wrong kind and says what the answer was.
func (p *player) sayWrong() {
	open := func() int {
		fd, err := unix.PidfdOpen(os.Getpid(), 0)
		if err != nil {
			panic(err)
		}
		return fd
	}
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	guard := ipc.GuardMessage{Kind: ipc.GuardGuard, Flags: 2, PID: 9, Text: "wrong"}
	for _, c := range []struct {
		name  string
		m     ipc.GuardMessage
		fds   []int
		twist func([]byte)
	}{
		{"no-descriptor", guard, nil, nil},
		{"two-descriptors", guard, []int{open(), open()}, nil},
		{"three-descriptors", guard, []int{open(), open(), open()}, nil},
		{"no-pidfd", guard, []int{null}, nil},
		{"half-a-pool", ipc.GuardMessage{Kind: ipc.GuardPool, Text: "x"}, []int{open()}, nil},
		{"version", guard, []int{open()}, func(b []byte) { b[0] = 2 }},
		{"kind", guard, []int{open()}, func(b []byte) { b[1] = 99 }},
		{"of-the-watchdog", ipc.GuardMessage{Kind: ipc.GuardAck}, nil, nil},
		{"unknown-release", ipc.GuardMessage{Kind: ipc.GuardRelease, PID: 77}, nil, nil},
		{"second-hello", ipc.GuardMessage{Kind: ipc.GuardHello, Text: ipc.Version}, nil, nil},
	} {
		p.seq++
		c.m.Seq = p.seq
		b := c.m.Append(nil)
		if c.twist != nil {
			c.twist(b)
		}
		if err := ipc.SendPacket(p.fd, b, c.fds); err != nil {
			panic(err)
		}
		m := p.hear()
		say("wrong %s %v %s", c.name, m.Kind, unix.ErrnoName(syscall.Errno(m.Value)))
	}
}

func (p *player) tell(m ipc.GuardMessage, fds ...int) {
	p.seq++
	m.Seq = p.seq
	if p.fd < 0 {
		return
	}
	if err := ipc.SendPacket(p.fd, m.Append(nil), fds); err != nil && err != ipc.ErrWouldBlock {
		say("cannot tell %v: %v", m.Kind, err)
	}
}

func (p *player) ask(m ipc.GuardMessage, fds ...int) ipc.GuardMessage {
	p.tell(m, fds...)
	return p.hear()
}

// dropAnswers takes what has come, so that the watchdog has room for more.
func (p *player) dropAnswers() {
	buf := make([]byte, ipc.MaxGuardSize)
	for p.fd >= 0 {
		if _, _, err := ipc.RecvPacket(p.fd, buf, 0); err != nil {
			return
		}
	}
}

// hear waits for the answer to the last question.
func (p *player) hear() ipc.GuardMessage {
	buf := make([]byte, ipc.MaxGuardSize)
	for {
		set := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(set, 10_000); err == unix.EINTR {
			continue
		}
		n, _, err := ipc.RecvPacket(p.fd, buf, 0)
		if err != nil {
			panic(err)
		}
		answer, err := ipc.DecodeGuard(buf[:n])
		if err == nil && answer.Kind == ipc.GuardAck && answer.Seq < p.seq { // of a beat
			continue
		}
		if err != nil || answer.Seq != p.seq {
			panic(fmt.Sprint("answer ", answer, err))
		}
		return answer
	}
}

// serve beats and waits for signals; it returns when the agent should end.
func (p *player) serve(signals chan os.Signal) {
	var beat <-chan time.Time
	if p.script.Beat > 0 {
		t := time.NewTicker(p.script.Beat)
		defer t.Stop()
		beat = t.C
	}
	for {
		select {
		case <-beat:
			p.tell(ipc.GuardMessage{Kind: ipc.GuardBeat})
			p.dropAnswers()
		case s := <-signals:
			say("agent got %s", unix.SignalName(s.(syscall.Signal)))
			switch s {
			case syscall.SIGTERM, syscall.SIGINT:
				for _, calls := range p.script.Draining {
					p.tell(ipc.GuardMessage{Kind: ipc.GuardBeat, Flags: ipc.BeatDraining, Value: calls})
				}
				if p.script.OnTERM != "ignore" {
					return
				}
			case syscall.SIGUSR2:
				playHang(p.script.Hang)
			case syscall.SIGUSR1: // ask for one more guarded process
				p.guardMany(1)
			}
		}
	}
}

// report says what of the environment and the descriptors arrived in the agent.
func report() {
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "LISTEN_") || strings.HasPrefix(name, "WATCHDOG_") || name == envNotify || strings.HasPrefix(name, "PITBOSS_") && !strings.HasPrefix(name, "PITBOSS_TEST") {
			say("env %s", kv)
		}
	}
	dir, _ := os.ReadDir("/proc/self/fd")
	for _, e := range dir {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.HasPrefix(target, "anon_inode") && !strings.HasPrefix(target, "/proc/") && !strings.HasPrefix(target, "/sys/fs/cgroup") { // the Go runtime reads its limit there
			say("fd %s %s", e.Name(), strings.SplitN(target, ":", 2)[0])
		}
	}
	out, _ := exec.Command("sh", "-c", "ulimit -Sn").Output()
	say("nofile %s", strings.TrimSpace(string(out)))
	say("group %v", unix.Getpgrp() == os.Getpid())
}
