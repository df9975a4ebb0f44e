package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

const (
	// silentAfter is how long the watchdog may take to answer before it counts as silent: then new spawns wait, calls go on.
	silentAfter = time.Second
	// unheardLimit is how long a beat may be without an answer: the next one came, and the one after that is due.
	unheardLimit = beatInterval * 3 / 2
	// handshakePatience is how long it may take to answer what comes before the first spawn.
	handshakePatience = 10 * time.Second
)

// guardClass is what a guarded process is (PROTOCOL.md §4, flags of GUARD).
type guardClass uint16

const (
	guardLauncher guardClass = 1
	guardKeeper   guardClass = 2
	guardWorker   guardClass = 3
)

// guard is the agent's end of the link to the watchdog. A nil *guard is an agent without one: every method works and
// promises nothing.
type guard struct {
	file    *os.File
	emit    func(*eventKind, ...slog.Attr)
	version string
	pid     int
	onLoss  func(error)     // called once, when the watchdog is gone
	giveUp  <-chan struct{} // closed when the agent begins to stop: then nobody waits for a silent watchdog any more

	mu      sync.Mutex
	seq     uint64
	waiting map[uint64]chan error
	unheard time.Time // when the first beat without an answer was sent; zero when all were answered
	state   string    // armed, silent, gone, closed
	done    chan struct{}
}

var (
	errWatchdogGone   = errors.New("the watchdog is gone")
	errWatchdogSilent = errors.New("the watchdog did not answer in time")
	errStopping       = errors.New("the agent is stopping")
)

// newGuard shakes hands: HELLO must be answered by a WELCOME of the same version within handshakePatience. From the end
// of giveUp on no spawn waits for an answer.
func newGuard(fd int, version, runID string, grace time.Duration, emit func(*eventKind, ...slog.Attr), onLoss func(error), giveUp <-chan struct{}) (*guard, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("cannot use the watchdog's link: %w", err)
	}
	g := &guard{file: os.NewFile(uintptr(fd), "watchdog link"), emit: emit, version: version, onLoss: onLoss, giveUp: giveUp,
		waiting: map[uint64]chan error{}, state: "unknown", done: make(chan struct{})}
	go g.readLoop()
	hello := ipc.GuardMessage{Kind: ipc.GuardHello, Value: grace.Microseconds(), Text: version + " " + runID}
	if err := g.ask(hello, nil, handshakePatience); err != nil {
		g.close()
		return nil, fmt.Errorf("cannot shake hands with the watchdog: %w", err)
	}
	return g, nil
}

// guard tells the watchdog of a process and returns when it holds the pidfd. While the watchdog is silent it waits, until
// the agent stops.
func (g *guard) guard(class guardClass, name string, process *pidfd) error {
	if g == nil {
		return nil
	}
	var err error
	inner := process.control(func(fd int) error {
		err = g.ask(ipc.GuardMessage{Kind: ipc.GuardGuard, Flags: uint16(class), PID: uint32(process.pid), Text: name}, []int{fd}, noLimit)
		return nil
	})
	if err = errors.Join(inner, err); err != nil {
		return fmt.Errorf("cannot place %s under the watchdog: %w", name, err)
	}
	process.guarded.Store(true)
	return nil
}

// release says that a process is proven gone, if it was guarded: a start may have been broken off before. It does not wait for
// the answer.
func (g *guard) release(process *pidfd) {
	if g != nil && process.guarded.Load() {
		_ = g.send(ipc.GuardMessage{Kind: ipc.GuardRelease, PID: uint32(process.pid)}, nil)
	}
}

// pool tells the watchdog of a pool's kill grace, which bounds how long it waits for keepers after the agent's death, and gives it
// cgroup.kill and cgroup.events of the pool's cgroup if it has one.
func (g *guard) pool(name string, grace time.Duration, cgroup []*os.File) error {
	if g == nil {
		return nil
	}
	var fds []int
	for _, f := range cgroup {
		fds = append(fds, int(f.Fd()))
	}
	if err := g.ask(ipc.GuardMessage{Kind: ipc.GuardPool, Value: grace.Microseconds(), Text: name}, fds, handshakePatience); err != nil {
		return fmt.Errorf("cannot register pool %q with the watchdog: %w", name, err)
	}
	return nil
}

// beat says that every loop of the agent has answered; a beat that cannot be sent is lost, not waited for.
func (g *guard) beat(running int, draining bool) {
	if g == nil {
		return
	}
	m := ipc.GuardMessage{Kind: ipc.GuardBeat, Value: int64(running)}
	if draining {
		m.Flags = 1
	}
	if g.send(m, nil) == nil {
		g.expectAnswer(time.Now())
	}
}

// expectAnswer notices a watchdog that stands still although nobody asks it anything: the answer to a beat is its own sign of life.
func (g *guard) expectAnswer(now time.Time) {
	g.mu.Lock()
	if g.unheard.IsZero() {
		g.unheard = now
	}
	mute := now.Sub(g.unheard) > unheardLimit
	g.mu.Unlock()
	if mute {
		g.setState("silent")
	}
}

// notify relays lines for the service manager (sd_notify(3)).
func (g *guard) notify(lines string) {
	if g != nil {
		_ = g.send(ipc.GuardMessage{Kind: ipc.GuardNotify, Text: lines}, nil)
	}
}

// stopping says that a drain began and when every process should be gone.
func (g *guard) stopping(budget time.Duration) {
	if g != nil {
		_ = g.send(ipc.GuardMessage{Kind: ipc.GuardStopping, Value: budget.Microseconds()}, nil)
	}
}

// bye says that the agent is about to end by its own will with this exit code.
func (g *guard) bye(code int) {
	if g != nil {
		_ = g.send(ipc.GuardMessage{Kind: ipc.GuardBye, Value: int64(code)}, nil)
	}
}

// status is the watchdog's pid and state for `status`.
func (g *guard) status() WatchdogStatus {
	if g == nil {
		return WatchdogStatus{State: "off"}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return WatchdogStatus{PID: g.pid, State: g.state}
}

// noLimit lets ask wait until the watchdog answers or is gone, or the agent stops.
const noLimit = 0

// ask sends a message and waits for its ACK. After silentAfter without one the state is silent, and it waits on, at most
// for limit.
func (g *guard) ask(m ipc.GuardMessage, fds []int, limit time.Duration) error {
	answer := make(chan error, 1)
	g.mu.Lock()
	if g.state == "gone" {
		g.mu.Unlock()
		return errWatchdogGone
	}
	g.seq++
	m.Seq = g.seq
	g.waiting[m.Seq] = answer
	g.mu.Unlock()

	silent := time.NewTimer(silentAfter)
	defer silent.Stop()
	retry := time.NewTicker(silentAfter / 10)
	defer retry.Stop()
	var over <-chan time.Time
	if limit != noLimit {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		over = timer.C
	}
	sent := false
	for {
		if !sent {
			err := g.write(m, fds)
			if err != nil && !errors.Is(err, ipc.ErrWouldBlock) {
				g.forget(m.Seq)
				return err
			}
			sent = err == nil
		}
		select {
		case err := <-answer:
			return err
		case <-silent.C:
			g.setState("silent")
		case <-over:
			g.forget(m.Seq)
			return errWatchdogSilent
		case <-g.giveUp:
			g.forget(m.Seq)
			return errStopping
		case <-retry.C:
		}
	}
}

func (g *guard) forget(seq uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.waiting, seq)
}

func (g *guard) send(m ipc.GuardMessage, fds []int) error {
	g.mu.Lock()
	g.seq++
	m.Seq = g.seq
	g.mu.Unlock()
	err := g.write(m, fds)
	if errors.Is(err, ipc.ErrWouldBlock) {
		g.setState("silent")
	}
	return err
}

func (g *guard) write(m ipc.GuardMessage, fds []int) error {
	raw, err := g.file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = ipc.SendPacket(int(fd), m.Append(nil), fds) }); err != nil {
		return err
	}
	return inner
}

func (g *guard) setState(state string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state != state && g.state != "gone" {
		kind := map[string]*eventKind{"armed": watchdogArmed, "silent": watchdogSilent}[state]
		if kind != nil { // closed is no news
			g.emit(kind, slog.Int("pid", g.pid), slog.String("from", g.state))
		}
		g.state = state
	}
}

func (g *guard) readLoop() {
	defer close(g.done)
	buf := make([]byte, 8<<10)
	for {
		m, err := g.receive(buf)
		if err != nil {
			g.lost(err)
			return
		}
		var answer error
		switch m.Kind {
		case ipc.GuardWelcome:
			g.mu.Lock()
			g.pid = int(m.PID)
			g.mu.Unlock()
		case ipc.GuardAck:
		case ipc.GuardNack:
			answer = fmt.Errorf("the watchdog refused: %s (%w)", m.Text, syscall.Errno(m.Value))
		default:
			continue
		}
		g.setState("armed")
		g.mu.Lock()
		g.unheard = time.Time{}
		if ch := g.waiting[m.Seq]; ch != nil {
			ch <- answer
			delete(g.waiting, m.Seq)
		}
		g.mu.Unlock()
	}
}

func (g *guard) receive(buf []byte) (ipc.GuardMessage, error) {
	raw, err := g.file.SyscallConn()
	if err != nil {
		return ipc.GuardMessage{}, err
	}
	var n int
	var inner error
	err = raw.Read(func(fd uintptr) bool {
		n, _, inner = ipc.RecvPacket(int(fd), buf, 0)
		return !errors.Is(inner, ipc.ErrWouldBlock)
	})
	if err == nil {
		err = inner
	}
	if err != nil {
		return ipc.GuardMessage{}, err
	}
	return ipc.DecodeGuard(buf[:n])
}

// lost fails everybody who waits and reports the loss once, unless we closed the link ourselves.
func (g *guard) lost(err error) {
	g.mu.Lock()
	closed := g.state == "closed"
	if !closed {
		g.state = "gone"
	}
	for seq, ch := range g.waiting {
		ch <- errWatchdogGone
		delete(g.waiting, seq)
	}
	g.mu.Unlock()
	if !closed {
		g.onLoss(err)
	}
}

// close ends the link; nothing is promised from here on.
func (g *guard) close() {
	if g != nil {
		g.setState("closed")
		_ = g.file.Close()
		<-g.done
	}
}
