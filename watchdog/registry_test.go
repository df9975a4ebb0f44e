package watchdog

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/pitboss-run/pitboss/ipc"
)

// fakeKernel counts descriptors: each number is handed out once, and may be closed once.
type fakeKernel struct {
	next   int
	open   map[int]bool
	faults []string
	probes map[int]error // what probe says; absent is nil
	alive  map[int]bool  // what dead denies; absent is dead
}

func newFakeKernel() *fakeKernel {
	return &fakeKernel{next: 100, open: map[int]bool{}, probes: map[int]error{}, alive: map[int]bool{}}
}

func (k *fakeKernel) fds(n int) []int {
	var fds []int
	for range n {
		k.next++
		k.open[k.next] = true
		fds = append(fds, k.next)
	}
	return fds
}

func (k *fakeKernel) use(what string, fd int) {
	if !k.open[fd] {
		k.faults = append(k.faults, fmt.Sprintf("%s of closed descriptor %d", what, fd))
	}
}

func (k *fakeKernel) registry() registry {
	return registry{pid: 42, kernel: kernel{
		probe: func(fd int) error { k.use("probe", fd); return k.probes[fd] },
		dead:  func(fd int) bool { k.use("poll", fd); return !k.alive[fd] },
		close: func(fd int) { k.use("close", fd); delete(k.open, fd) },
	}}
}

// held are the descriptors that the registry must own now: not one more may be open.
func held(r *registry) map[int]bool {
	fds := map[int]bool{}
	for _, g := range r.guards.all {
		fds[int(g.fd)] = true
	}
	for _, p := range r.pools {
		if p.kill >= 0 {
			fds[p.kill], fds[p.events] = true, true
		}
	}
	return fds
}

func (k *fakeKernel) check(t *testing.T, what string, r *registry) {
	t.Helper()
	for _, fault := range k.faults {
		t.Errorf("%s: %s", what, fault)
	}
	k.faults = nil
	own := held(r)
	for fd := range k.open {
		if !own[fd] {
			t.Errorf("%s: descriptor %d leaks", what, fd)
		}
	}
	for fd := range own {
		if !k.open[fd] {
			t.Errorf("%s: descriptor %d is held and closed", what, fd)
		}
	}
}

func hello(seq uint64) ipc.GuardMessage {
	return ipc.GuardMessage{Kind: ipc.GuardHello, Seq: seq, Value: 3_000_000, Text: ipc.Version + " run-1"}
}

// message is a well-formed message of a kind.
func message(k ipc.GuardKind) ipc.GuardMessage {
	m := ipc.GuardMessage{Kind: k, Seq: 9}
	switch k {
	case ipc.GuardHello:
		m = hello(9)
	case ipc.GuardGuard:
		m.PID, m.Flags, m.Text = 7, uint16(ipc.RoleWorker), "default-0.1"
	case ipc.GuardRelease, ipc.GuardWelcome:
		m.PID = 7
	case ipc.GuardPool:
		m.Text, m.Value = "default", 5_000_000
	}
	return m
}

// Every kind, before and after HELLO, with every count of descriptors that can arrive.
func TestAdmitEveryKind(t *testing.T) {
	right := map[ipc.GuardKind][]int{ipc.GuardHello: {0}, ipc.GuardGuard: {1}, ipc.GuardRelease: {0}, ipc.GuardPool: {0, 2},
		ipc.GuardBeat: {0}, ipc.GuardNotify: {0}, ipc.GuardStopping: {0}, ipc.GuardBye: {0}}
	anytime := map[ipc.GuardKind]bool{ipc.GuardHello: true, ipc.GuardBeat: true, ipc.GuardNotify: true, ipc.GuardStopping: true, ipc.GuardBye: true}
	events := map[ipc.GuardKind]eventKind{ipc.GuardHello: evHello, ipc.GuardPool: evPool, ipc.GuardBeat: evBeat, ipc.GuardStopping: evBudget, ipc.GuardBye: evBye}
	for _, kind := range ipc.GuardKinds() {
		for _, greeted := range []bool{false, true} {
			for n := range ipc.MaxGuardFDs + 1 {
				what := fmt.Sprintf("%v, greeted %v, %d descriptors", kind, greeted, n)
				k := newFakeKernel()
				r := k.registry()
				if greeted {
					r.admit(hello(1), nil)
					r.admit(ipc.GuardMessage{Kind: ipc.GuardGuard, PID: 7, Flags: 3, Seq: 2}, k.fds(1))
				}
				before := len(held(&r))
				h := r.admit(message(kind), k.fds(n))
				k.check(t, what, &r)

				good := false
				for _, count := range right[kind] {
					good = good || count == n
				}
				good = good && (greeted || anytime[kind])
				if greeted && kind == ipc.GuardHello {
					good = false // once is enough
				}
				checkHeard(t, what, h, kind, good)
				wantEvent, has := events[kind]
				if h.real != (good && has) || h.real && h.event.kind != wantEvent {
					t.Errorf("%s: event %v %v, want %v %v", what, h.real, h.event.kind, good && has, wantEvent)
				}
				if !good && len(held(&r)) != before {
					t.Errorf("%s: a refused message changes what is guarded", what)
				}
			}
		}
	}
}

// checkHeard: a good message that wants an answer has one, any other has none; every bad one is a NACK with its sequence.
func checkHeard(t *testing.T, what string, h heard, kind ipc.GuardKind, good bool) {
	t.Helper()
	want := ipc.GuardNack
	switch {
	case good && kind == ipc.GuardHello:
		want = ipc.GuardWelcome
	case good && (kind == ipc.GuardGuard || kind == ipc.GuardRelease || kind == ipc.GuardPool || kind == ipc.GuardBeat):
		want = ipc.GuardAck
	case good:
		want = 0
	}
	if h.answer.Kind != want || want != 0 && h.answer.Seq != 9 {
		t.Errorf("%s: answer %+v, want %v of 9", what, h.answer, want)
	}
	if want == ipc.GuardNack && (h.answer.Value == 0 || h.answer.Text == "" || h.real || h.notify != "") {
		t.Errorf("%s: NACK %+v, event %v", what, h.answer, h.real)
	}
}

func TestAdmitHello(t *testing.T) {
	for _, c := range []struct {
		text string
		want syscall.Errno // 0: WELCOME
	}{
		{ipc.Version + " run-7", 0}, {ipc.Version, 0}, {"9.9.9 run-7", syscall.EPROTONOSUPPORT}, {"", syscall.EPROTONOSUPPORT}, {" " + ipc.Version, syscall.EPROTONOSUPPORT},
	} {
		k := newFakeKernel()
		r := k.registry()
		h := r.admit(ipc.GuardMessage{Kind: ipc.GuardHello, Seq: 3, Text: c.text, Value: 2_000_000}, nil)
		if syscall.Errno(h.answer.Value) != c.want || (c.want == 0) != r.hello {
			t.Errorf("HELLO %q: %+v, want errno %v", c.text, h.answer, c.want)
		}
		if c.want == 0 && (h.answer.PID != 42 || h.answer.Text != ipc.Version || h.event.span.Seconds() != 2) {
			t.Errorf("HELLO %q: %+v %+v", c.text, h.answer, h.event)
		}
		if c.want != 0 && c.text != "" && !(strings.Contains(h.answer.Text, ipc.Version) && strings.Contains(h.answer.Text, strings.Fields(c.text)[0])) {
			t.Errorf("HELLO %q: %q names not both versions", c.text, h.answer.Text)
		}
	}
}

func TestAdmitGuardAsksTheKernel(t *testing.T) {
	for probe, want := range map[error]syscall.Errno{nil: 0, syscall.EPERM: 0, syscall.ESRCH: syscall.ESRCH, syscall.EBADF: syscall.EBADF, syscall.EINVAL: syscall.EBADF} {
		k := newFakeKernel()
		r := k.registry()
		r.admit(hello(1), nil)
		fds := k.fds(1)
		if probe != nil {
			k.probes[fds[0]] = probe
		}
		h := r.admit(message(ipc.GuardGuard), fds)
		if syscall.Errno(h.answer.Value) != want || (want == 0) != (r.guards.n == 1) {
			t.Errorf("probe says %v: %+v, want errno %v", probe, h.answer, want)
		}
		k.check(t, fmt.Sprint("probe ", probe), &r)
	}
}

func TestAdmitReleaseBelievesTheKernel(t *testing.T) {
	k := newFakeKernel()
	r := k.registry()
	r.admit(hello(1), nil)
	fds := k.fds(1)
	r.admit(message(ipc.GuardGuard), fds)
	if name := r.name(7); name != "default-0.1" {
		t.Errorf("guarded as %q", name)
	}
	k.alive[fds[0]] = true
	if h := r.admit(message(ipc.GuardRelease), nil); syscall.Errno(h.answer.Value) != syscall.EBUSY || r.guards.n != 1 {
		t.Errorf("a process that lives was let go: %+v", h.answer)
	}
	k.alive[fds[0]] = false
	if h := r.admit(message(ipc.GuardRelease), nil); h.answer.Kind != ipc.GuardAck || r.guards.n != 0 || len(k.open) != 0 {
		t.Errorf("a dead process stays: %+v", h.answer)
	}
	if h := r.admit(message(ipc.GuardRelease), nil); syscall.Errno(h.answer.Value) != syscall.ESRCH {
		t.Errorf("released twice: %+v", h.answer)
	}
	k.check(t, "release", &r)
	if r.counted != 1 {
		t.Errorf("%d were ever guarded, want 1", r.counted)
	}
}

// A number that comes back, and a pool that is named again, replace what was: the old descriptors are closed.
func TestAdmitReplaces(t *testing.T) {
	k := newFakeKernel()
	r := k.registry()
	r.admit(hello(1), nil)
	for range 3 {
		r.admit(message(ipc.GuardGuard), k.fds(1))
		r.admit(message(ipc.GuardPool), k.fds(2))
		k.check(t, "again", &r)
	}
	if r.guards.n != 1 || len(r.pools) != 1 || len(k.open) != 3 || !r.cgroups() || r.counted != 3 {
		t.Errorf("%d guards, %d pools, %d descriptors, %d counted", r.guards.n, len(r.pools), len(k.open), r.counted)
	}
	r.admit(message(ipc.GuardPool), nil)
	k.check(t, "the pool without a cgroup", &r)
	if r.cgroups() || len(k.open) != 1 {
		t.Errorf("cgroups %v, %d descriptors", r.cgroups(), len(k.open))
	}
}

// FuzzRegistry: no sequence of messages leaks a descriptor, closes one twice or uses a closed one; what is not to be answered is
// not, and nothing is guarded before HELLO. Each step is four bytes: kind, pid, descriptors with probe and death, text.
func FuzzRegistry(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, 7, 1, 0, 3, 7, 0, 0, 4, 0, 2, 0})
	f.Add([]byte{2, 7, 1, 0, 4, 0, 2, 0, 1, 0, 2, 0, 1, 0, 0, 0, 2, 7, 1, 0, 2, 7, 1, 0, 3, 7, 0x40, 0, 3, 7, 0, 0})
	f.Add([]byte{1, 0, 0, 0, 4, 0, 2, 1, 4, 0, 2, 1, 4, 0, 0, 1, 4, 0, 2, 2, 64, 1, 2, 0, 65, 0, 1, 0, 200, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		k := newFakeKernel()
		r := k.registry()
		for ; len(b) >= 4; b = b[4:] {
			m := message(ipc.GuardKind(b[0]))
			m.PID = uint32(b[1] % 8)
			if m.Kind == ipc.GuardPool {
				m.Text = fmt.Sprint("pool", b[3]%4)
			}
			if m.Kind == ipc.GuardHello && b[3]%4 == 3 {
				m.Text = "other"
			}
			fds := k.fds(int(b[2] & 3))
			for _, fd := range fds {
				k.alive[fd] = b[2]&0x40 != 0
				if probe := []error{nil, syscall.EPERM, syscall.ESRCH, syscall.EBADF}[b[2]>>2&3]; probe != nil {
					k.probes[fd] = probe
				}
			}
			before := len(k.open) - len(fds)
			h := r.admit(m, fds)
			k.check(t, fmt.Sprintf("%v with %d descriptors", m.Kind, len(fds)), &r)
			if h.answer.Kind == ipc.GuardNack && len(k.open) != before {
				t.Fatalf("%v was refused and %d descriptors are open instead of %d", m.Kind, len(k.open), before)
			}
			if !r.hello && len(k.open) != 0 {
				t.Fatalf("%v is held before HELLO", m.Kind)
			}
			if m.Kind.Answered() != (h.answer.Kind != 0) && h.answer.Kind != ipc.GuardNack {
				t.Fatalf("%v: answer %v", m.Kind, h.answer.Kind)
			}
			if r.guards.n > 8 || len(r.pools) > 4 {
				t.Fatalf("%d guards of 8 numbers, %d pools of 4 names", r.guards.n, len(r.pools))
			}
		}
	})
}
