package watchdog

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

// The test binary plays the agents, children and strangers: `binary role=NAME JSON`.

// script is what a played agent does, in the order of the fields.
type script struct {
	Hello     bool
	Version   string        // of HELLO; "" is ours
	Grace     time.Duration // of HELLO
	Children  []string      // kinds of children, see playChild
	Guards    int           // GUARD messages with made-up numbers and one real pidfd
	Pool      string        // cgroup directory of a POOL
	Notify    string
	Stopping  time.Duration // STOPPING
	Beat      time.Duration // beat this often; 0 never
	Draining  []int64       // after TERM, one draining beat with each of these
	DeafLink  bool          // never read an answer, but ask many questions
	CloseLink bool
	OnTERM    string // "bye" (default), "ignore", "default"
	OnABRT    string // "ignore", else Go's own
	Report    bool   // say what environment and descriptors arrived
	ExitNow   bool   // do not serve
	Bye       int    // exit code; announced when there was a HELLO
	NoBye     bool
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
		startChild(kind)
	}
	say("agent %d ready", os.Getpid())
	if !s.ExitNow {
		p.serve(signals)
	}
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
		if err == nil && !strings.HasPrefix(target, "anon_inode") && !strings.HasPrefix(target, "/proc/") {
			say("fd %s %s", e.Name(), strings.SplitN(target, ":", 2)[0])
		}
	}
	out, _ := exec.Command("sh", "-c", "ulimit -Sn").Output()
	say("nofile %s", strings.TrimSpace(string(out)))
	say("group %v", unix.Getpgrp() == os.Getpid())
}

// startChild starts a child that keeps our standard output, so that its lines reach the test.
func startChild(kind string) {
	cmd := exec.Command(os.Args[0], "role=child", kind)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	name, _, _ := strings.Cut(kind, ":")
	if name == "setsid" || name == "daemon" || name == "bomb" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	if name == "keeper" {
		// Like a real keeper it sees our death as the end of a pipe that nobody else holds.
		r, w, err := os.Pipe()
		if err != nil {
			panic(err)
		}
		cmd.Stdin = r
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		_ = r.Close()
		neverClosed = append(neverClosed, w)
		return
	}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	go func() { _ = cmd.Wait() }() // a played agent lives until it is killed; nobody is left to join
}

// neverClosed keeps the keepers' pipes open until this process dies; only a role process writes it.
var neverClosed []*os.File

func playChild(kind string) int {
	name, arg, _ := strings.Cut(kind, ":")
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP)
	switch name {
	case "keeper": // "keeper:DURATION:FILE": takes so long after its agent's death, then proves that it ended by itself
		span, file, _ := strings.Cut(arg, ":")
		d, _ := time.ParseDuration(span)
		signal.Ignore(syscall.SIGTERM)
		say("child %s up", name)
		_, _ = io.Copy(io.Discard, os.Stdin)
		time.Sleep(d) // the length of its ladder is what this helper is about
		_ = os.WriteFile(file, []byte("finished"), 0o600)
		return 0
	case "daemon": // the classic double fork: our parent never sees the grandchild
		cmd := exec.Command(os.Args[0], "role=child", "setsid:"+arg)
		cmd.Stdout = os.Stdout
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		return 0
	case "bomb": // runs away: every generation starts the next one in a new session and exits
		cmd := exec.Command(os.Args[0], "role=child", "bomb:again")
		cmd.Stdout = os.Stdout
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return 1
		}
		if arg != "again" {
			say("child bomb up")
		}
		return 0
	case "plain":
	default: // "setsid": ignores every polite signal
		signal.Ignore(syscall.SIGTERM)
	}
	say("child %s up %d", name, os.Getpid())
	for {
		time.Sleep(time.Hour)
	}
}
