package watchdog

import (
	"time"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

// loop is the one owner of everything from the agent's start to its certificate. Every turn: wait, look at what the kernel
// says, feed the engine, do what it answers.
type loop struct {
	cfg      config
	engine   engine
	agent    *process
	link     *link
	kids     *children
	sweeper  sweeper
	signals  *signalPipe
	notify   *notifier
	out      *writer
	proc     *procFiles
	parent   int // pidfd of the outer process or of the program to die with, -1 for none
	judged   verdict
	silent   bool // judged says why
	times    stamps
	finished bool
}

// stamps are the moments that the certificate speaks of.
type stamps struct {
	detect time.Duration
	dead   instant // the death was recorded
	empty  instant
	scan   instant // next look at the tree while it is being emptied
}

// slots of the poll set; -1 as a descriptor is skipped by the kernel.
const (
	slotSignals = iota
	slotLink
	slotAgent
	slotParent
	slotCount
)

// run returns the exit code when the tree is empty or given up.
func (l *loop) run() int {
	var set [slotCount]unix.PollFd
	for !l.finished {
		l.fill(&set)
		_, err := unix.Poll(set[:], l.timeout(monotonic()))
		woke := monotonic()
		if err != nil && err != unix.EINTR {
			// EINVAL, ENOMEM: nothing is readable then; the deadlines still hold. One millisecond, not a hot loop.
			l.out.line("cannot wait: " + err.Error())
			_, _ = unix.Poll(nil, 1)
			set = [slotCount]unix.PollFd{}
		}
		if set[slotParent].Revents != 0 {
			l.lostParent()
		}
		if set[slotSignals].Revents != 0 {
			l.onSignals()
		}
		// Beats that lie in the socket count before any deadline, also after this process itself was stopped.
		l.onLink(false)
		if set[slotAgent].Revents != 0 || l.agent.reaped {
			l.onDeath(woke)
		}
		l.onTime(monotonic())
	}
	return l.conclude()
}

func (l *loop) fill(set *[slotCount]unix.PollFd) {
	agent := l.agent.fd
	if l.agent.dead {
		agent = -1
	}
	set[slotSignals] = unix.PollFd{Fd: int32(l.signals.read), Events: unix.POLLIN}
	set[slotLink] = unix.PollFd{Fd: int32(l.link.fd), Events: l.link.wants()}
	set[slotAgent] = unix.PollFd{Fd: int32(agent), Events: unix.POLLIN}
	set[slotParent] = unix.PollFd{Fd: int32(l.parent), Events: unix.POLLIN}
}

// timeout is the poll's, in ms, rounded up; -1 when nothing is due.
func (l *loop) timeout(now instant) int {
	at, _ := l.engine.next()
	for _, other := range [...]instant{l.notify.due(), l.times.scan} {
		if other != 0 && (at == 0 || other < at) {
			at = other
		}
	}
	if at == 0 {
		return -1
	}
	return int(min(max((at-now+time.Millisecond-1)/time.Millisecond, 0), 1<<30))
}

func (l *loop) lostParent() {
	_ = unix.Close(l.parent)
	l.parent = -1
	l.out.line("the process that started this one is gone: stopping")
	l.feed(event{kind: evStop, signal: int(unix.SIGTERM)})
}

func (l *loop) onSignals() {
	var buf [64]byte
	children := false
	for _, b := range l.signals.drain(buf[:]) {
		n := int(b)
		if ev, ok := meaning(n, l.signals.hangups); ok {
			l.feed(ev)
		} else if isTerminalStop(n) {
			l.out.line("not stopping for " + unix.SignalName(unix.Signal(n)) + ": a stopped guardian guards nobody")
		}
		children = children || n == int(unix.SIGCHLD)
	}
	if children {
		l.look()
	}
}

// onLink takes everything that lies in the socket.
func (l *loop) onLink(last bool) {
	for {
		h, more := l.link.receive(last)
		if h.answer.Kind == ipc.GuardNack {
			l.out.line("refused a message of the agent: " + h.answer.Text)
		}
		l.notify.send(agentLines(h.notify))
		if h.real {
			l.onBeatAgain(h.event)
			l.feed(h.event)
		}
		if !more {
			break
		}
	}
}

func (l *loop) onBeatAgain(ev event) {
	if ev.kind == evBeat && l.silent {
		l.silent = false
		l.out.line("agent " + itoa(l.agent.pid) + " beats again")
	}
}

// onDeath is the pidfd's word. The agent's last messages are read first: its BYE may lie in the socket.
func (l *loop) onDeath(woke instant) {
	if l.agent.dead {
		return
	}
	if !l.agent.reaped {
		n, err := unix.Wait4(l.agent.pid, &l.agent.status, unix.WNOHANG|unix.WALL, nil)
		l.agent.reaped = err == nil && n == l.agent.pid
		// A tracer that does not wait keeps the status from us (ptrace(2)). The process is dead all the same: its children are
		// ours by now, and so is its zombie, until the tracer lets go.
		if !l.agent.reaped && !readable(l.agent.fd) {
			return
		}
	}
	l.onLink(true)
	l.agent.dead = true
	l.times.dead = monotonic()
	l.times.detect = l.times.dead - woke
	l.proc.close()
	if !l.engine.ownWill() {
		l.out.line("agent " + itoa(l.agent.pid) + " is dead (" + l.agent.cause() + "); waiting for its keepers, at most " +
			(l.engine.grace + ladderSlack).String())
	}
	l.feed(event{kind: evDied})
}

// onTime fires what is due.
func (l *loop) onTime(now instant) {
	l.notify.tick(now)
	if at, kind := l.engine.next(); at != 0 && now >= at && !l.finished {
		l.feed(event{kind: kind})
	}
	if l.times.scan != 0 && now >= l.times.scan && !l.finished {
		l.look()
	}
}

func (l *loop) feed(ev event) {
	before := l.engine.phase
	at, _ := l.engine.next()
	now := monotonic()
	next, todo, expected := l.engine.step(ev, now)
	l.engine = next
	if !expected {
		l.out.line("ignored " + ev.kind.String() + " while " + before.String())
		return
	}
	for _, a := range todo {
		l.do(a, now-at)
	}
}

func (l *loop) do(a action, late time.Duration) {
	switch a.act {
	case actSignal:
		l.tellKill(a.signal)
		l.agent.signal(a.signal)
	case actSample:
		l.proc.sample(monotonic(), l.silent && l.judged == starved)
	case actJudge:
		l.judge(late)
	case actTellStopping:
		l.notify.stopping()
	case actExtend:
		l.notify.extend(a.span)
	case actScan:
		l.look()
	case actFinish:
		l.times.empty, l.finished = monotonic(), true
	}
}

func (l *loop) tellKill(signal int) {
	if signal == sigKILL {
		l.out.line("agent " + itoa(l.agent.pid) + " is still there (" + l.engine.cause + "): killing it")
	}
}

// judge asks why the agent is silent; each new answer is one line.
func (l *loop) judge(late time.Duration) {
	e := l.proc.collect(monotonic(), late)
	v := judge(e)
	name := "agent " + itoa(l.agent.pid) + " has not beaten for " + l.cfg.agentTimeout.String() + ": " + v.String()
	if l.link.fd < 0 {
		name += " (it closed its end of the guard link)"
	}
	if v == hung {
		l.out.line(name + "; asking for its stacks, then killing it (" + e.String() + ")")
		l.feed(event{kind: evHung})
		return
	}
	if !l.silent || l.judged != v {
		l.out.line(name + "; leaving it alone (" + e.String() + ")")
	}
	l.silent, l.judged = true, v
	l.feed(event{kind: evHeld})
}

// look reaps, kills when the phase says so, and tells the engine what it saw.
func (l *loop) look() {
	var v view
	// A zombie counts for RLIMIT_NPROC and pids.max. While none is reaped, a fork bomb that has reached its limit cannot grow, and each
	// KILL leaves less of it.
	if l.engine.phase != sweeping || !l.agent.dead || !l.kids.anyLives() {
		v.childless = l.reap()
	}
	phase := l.engine.phase
	if phase != waiting && phase != sweeping {
		return
	}
	l.times.scan = monotonic() + scanEvery
	v.fresh = l.sweeper.kill(phase)
	if phase == sweeping && !l.agent.dead {
		l.sweeper.killGuarded(&l.link.registry)
		v.fresh += l.sweeper.killBelow(l.proc)
	}
	v.populated = populated(&l.link.registry, phase == sweeping)
	if kind, ok := conclude(v); ok {
		l.feed(event{kind: kind})
	}
}

// reap collects every dead child. childless means that there is none at all.
func (l *loop) reap() (childless bool) {
	for {
		pid, status, childless := l.kids.reap()
		if pid == 0 {
			return childless
		}
		l.sweeper.ladder.reaped(pid)
		if int(pid) == l.agent.pid && !l.agent.reaped {
			l.agent.reaped, l.agent.status = true, status
		}
	}
}

// conclude writes the certificate where one is due, removes the runtime directory and returns the exit code.
func (l *loop) conclude() int {
	l.reap()
	r := &l.link.registry
	e := &l.engine
	left := l.sweeper.survivors(r, l.proc, !l.agent.dead)
	o := outcome{exited: l.agent.reaped && l.agent.status.Exited(), code: l.agent.status.ExitStatus(), hello: e.hello, bye: e.bye,
		cause: e.cause, killed: l.sweeper.ladder.killed, survivors: len(left)}
	if o.certified() {
		c := certificate{runID: r.runID, agentPID: l.agent.pid, cause: e.cause, detect: l.times.detect, killed: o.killed,
			survivors: left, cgroups: r.cgroups(), guarded: r.counted}
		if c.cause == "" {
			c.cause = l.agent.cause()
		}
		if l.agent.dead {
			c.empty = l.times.empty - l.times.dead
		}
		text := c.json()
		l.out.raw(string(text))
		if err := writeCertificate(l.cfg.runtimeDir, text); err != nil {
			l.out.line(err.Error())
		}
	}
	if l.cfg.removeDir {
		if err := removeDir(l.cfg.runtimeDir); err != nil {
			l.out.line(err.Error())
		}
	}
	return o.exitCode()
}
