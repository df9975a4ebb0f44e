package watchdog

import (
	"strings"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
)

// guarded is a process that the agent told us of. Parentage kills it; this record serves the certificate, and reaches it
// below an agent that cannot die.
type guarded struct {
	name string
	pid  uint32
	fd   int32 // pidfd, owned
	role ipc.Role
}

// pool is a pool's kill grace and, in tier cgroup, the two files of its cgroup.
type pool struct {
	name   string
	kill   int // cgroup.kill, owned, -1 without a cgroup
	events int // cgroup.events, owned, -1 without a cgroup
}

// kernel is what the registry asks of the descriptors it is given; faked in tests.
type kernel struct {
	// probe sends signal 0 by pidfd: nil, EPERM (another user's process), ESRCH (reaped), EBADF (no pidfd).
	probe func(fd int) error
	// dead polls a pidfd: readable from the end of the last thread on, reaped or not.
	dead  func(fd int) bool
	close func(fd int)
}

// registry holds what the agent has said. Only admit changes it.
type registry struct {
	kernel  kernel
	pid     int // of the watchdog, for WELCOME
	hello   bool
	runID   string
	guards  roster
	pools   []pool
	counted int // processes that were ever guarded
}

// heard is what follows from one message: perhaps an event, perhaps lines for the service manager, perhaps an answer.
type heard struct {
	event  event
	real   bool // event is one
	notify string
	answer ipc.GuardMessage // Kind 0: none
}

// refuse is the answer to a message that cannot be accepted.
func refuse(seq uint64, errno syscall.Errno, why string) heard {
	return heard{answer: ipc.GuardMessage{Kind: ipc.GuardNack, Seq: seq, Value: int64(errno), Text: why}}
}

// admit takes one well-formed message and owns its descriptors from here on, also when it refuses.
func (r *registry) admit(m ipc.GuardMessage, fds []int) heard {
	h := r.decide(m, fds)
	if h.answer.Kind == ipc.GuardNack {
		for _, fd := range fds {
			r.kernel.close(fd)
		}
		return h
	}
	if m.Kind.Answered() && h.answer.Kind == 0 {
		h.answer = ipc.GuardMessage{Kind: ipc.GuardAck, Seq: m.Seq}
	}
	return h
}

func (r *registry) decide(m ipc.GuardMessage, fds []int) heard {
	if !m.Kind.FromAgent() {
		return refuse(m.Seq, syscall.EPROTO, m.Kind.String()+" is not the agent's to send")
	}
	if err := m.CheckFDs(len(fds)); err != nil {
		return refuse(m.Seq, syscall.EBADMSG, err.Error())
	}
	if !r.hello && (m.Kind == ipc.GuardGuard || m.Kind == ipc.GuardRelease || m.Kind == ipc.GuardPool) {
		return refuse(m.Seq, syscall.EPROTO, m.Kind.String()+" before HELLO")
	}
	span := time.Duration(m.Value) * time.Microsecond
	switch m.Kind {
	case ipc.GuardHello:
		return r.greet(m, span)
	case ipc.GuardGuard:
		return r.guard(m, fds[0])
	case ipc.GuardRelease:
		return r.release(m)
	case ipc.GuardPool:
		r.setPool(m.Text, fds)
		return heard{event: event{kind: evPool, span: span}, real: true}
	case ipc.GuardBeat:
		return heard{event: event{kind: evBeat, draining: m.Flags&ipc.BeatDraining != 0, calls: m.Value}, real: true}
	case ipc.GuardNotify:
		return heard{notify: m.Text}
	case ipc.GuardStopping:
		return heard{event: event{kind: evBudget, span: span}, real: true}
	}
	return heard{event: event{kind: evBye, code: int(m.Value)}, real: true}
}

func (r *registry) greet(m ipc.GuardMessage, grace time.Duration) heard {
	version, runID, _ := strings.Cut(m.Text, " ")
	switch {
	case r.hello:
		return refuse(m.Seq, syscall.EALREADY, "HELLO was said before")
	case version != ipc.Version:
		return refuse(m.Seq, syscall.EPROTONOSUPPORT, "the watchdog is version "+ipc.Version+", the agent is version "+version+"; install both from the same release")
	}
	r.hello, r.runID = true, runID
	return heard{
		event:  event{kind: evHello, span: grace},
		real:   true,
		answer: ipc.GuardMessage{Kind: ipc.GuardWelcome, PID: uint32(r.pid), Seq: m.Seq, Text: ipc.Version},
	}
}

func (r *registry) guard(m ipc.GuardMessage, fd int) heard {
	switch err := r.kernel.probe(fd); err {
	case nil, syscall.EPERM:
	case syscall.ESRCH:
		return refuse(m.Seq, syscall.ESRCH, "the process is gone already")
	default:
		return refuse(m.Seq, syscall.EBADF, "the descriptor is not a pidfd")
	}
	g := guarded{pid: m.PID, fd: int32(fd), role: ipc.Role(m.Flags), name: m.Text}
	r.counted++
	if i := r.find(m.PID); i >= 0 { // the number came back before its RELEASE
		r.kernel.close(int(r.guards.at(i).fd))
		*r.guards.at(i) = g
		return heard{}
	}
	r.guards.add(g)
	return heard{}
}

// release believes the agent only as far as the kernel agrees: a process that lives stays guarded.
func (r *registry) release(m ipc.GuardMessage) heard {
	i := r.find(m.PID)
	if i < 0 {
		return refuse(m.Seq, syscall.ESRCH, "no such process is guarded")
	}
	fd := int(r.guards.at(i).fd)
	if !r.kernel.dead(fd) {
		return refuse(m.Seq, syscall.EBUSY, "the process is not gone")
	}
	r.kernel.close(fd)
	r.guards.remove(i)
	return heard{}
}

func (r *registry) find(pid uint32) int {
	for i, g := range r.guards.all {
		if g.pid == pid {
			return i
		}
	}
	return -1
}

// name is what the agent called a process, "" if it did not.
func (r *registry) name(pid int32) string {
	if i := r.find(uint32(pid)); i >= 0 {
		return r.guards.at(i).name
	}
	return ""
}

// setPool adds a pool or replaces the one of that name, as a reload may.
func (r *registry) setPool(name string, fds []int) {
	p := pool{name: name, kill: -1, events: -1}
	if len(fds) == 2 {
		p.kill, p.events = fds[0], fds[1]
	}
	for i := range r.pools {
		if r.pools[i].name == name {
			if r.pools[i].kill >= 0 {
				r.kernel.close(r.pools[i].kill)
				r.kernel.close(r.pools[i].events)
			}
			r.pools[i] = p
			return
		}
	}
	r.pools = append(r.pools, p)
}

// cgroups reports whether some pool has a cgroup: then the proof needs it to be empty.
func (r *registry) cgroups() bool {
	for _, p := range r.pools {
		if p.kill >= 0 {
			return true
		}
	}
	return false
}
