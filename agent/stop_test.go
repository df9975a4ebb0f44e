package agent

import (
	"errors"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

// stops waits until every process of the agent is gone.
func stops(t *testing.T, a *Agent, limit time.Duration) {
	t.Helper()
	start := time.Now()
	select {
	case <-a.ended:
	case <-time.After(limit):
		t.Fatalf("not stopped within %s", limit)
	}
	t.Logf("stopped after %s", time.Since(start).Round(time.Millisecond))
}

func TestADrainLetsRunningAndQueuedCallsEnd(t *testing.T) {
	a := startTestAgent(t, queueTools, nil)
	waitReady(t, a)
	running := begin(t, a, request("pause", `{"seconds":0.8}`))
	runs(t, a)
	waiting := begin(t, a, request("add", `{"a":1,"b":2}`))
	await(t, 5*time.Second, "queued", func() bool { return queued(a) == 1 })
	a.Stop("test")
	<-a.Draining()
	await(t, 5*time.Second, "draining", func() bool { return a.Status().Pools[0].State == "draining" })
	if e := callFails(t, a, request("add", `{"a":1,"b":2}`), Draining); e.MayHaveRun || e.RetryAfter <= 0 {
		t.Errorf("%+v", e)
	}
	for _, c := range []<-chan outcome{running, waiting} {
		if o := <-c; o.err != nil {
			t.Errorf("drained call: %v", o.err)
		}
	}
	stops(t, a, 10*time.Second)
}

// Stopped twice, or drained for too long: the ladder ends what runs, and the call says so.
func TestALadderEndsWhatDoesNotEnd(t *testing.T) {
	for name, c := range map[string]struct {
		twice bool
		drain time.Duration
	}{"stopped twice": {true, 30 * time.Second}, "drained too long": {false, 700 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			a := startTestAgent(t, testTools, func(p *PoolConfig) { p.Timeouts.Drain = c.drain })
			waitReady(t, a)
			stuck := begin(t, a, request("deadlock", `{}`))
			runs(t, a)
			waiting := begin(t, a, request("add", `{"a":1,"b":2}`))
			await(t, 5*time.Second, "queued", func() bool { return queued(a) == 1 })
			a.Stop("test")
			<-a.Draining()
			if c.twice {
				a.Hurry()
			}
			e := wantReason(t, (<-stuck).err, WorkerDied)
			if e.PostMortem.Killer == "" {
				t.Errorf("%+v", e.PostMortem)
			}
			wantReason(t, (<-waiting).err, Draining)
			stops(t, a, 10*time.Second)
		})
	}
}

// Nobody is started during a drain, so who waits for a worker that dies is told at once.
func TestAQueueWithoutWorkersEndsWithTheDrain(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	waitReady(t, a)
	dies := begin(t, a, request("pause", `{"seconds":60}`))
	id := runs(t, a)
	waiting := begin(t, a, request("add", `{"a":1,"b":2}`))
	await(t, 5*time.Second, "queued", func() bool { return queued(a) == 1 })
	a.Stop("test")
	<-a.Draining()
	if err := syscall.Kill(workerOf(a, id).PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantReason(t, (<-dies).err, WorkerDied)
	o := <-waiting
	wantReason(t, o.err, Draining)
	if o.took > 5*time.Second {
		t.Errorf("told after %s", o.took)
	}
	stops(t, a, 10*time.Second)
}

// A launcher that is stopped neither forks nor reaps; a stop must not wait for it.
func TestAStoppedLauncherDoesNotHoldUpAStop(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	waitReady(t, a)
	s := a.Status().Pools[0]
	if err := syscall.Kill(s.LauncherPID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	callFails(t, a, request("exit_three", `{}`), WorkerDied)
	await(t, 5*time.Second, "starting", func() bool {
		w := workers(a)
		return len(w) > 0 && w[len(w)-1].State == "starting"
	})
	a.Stop("test")
	stops(t, a, reapPatience+launcherPatience+5*time.Second)
	if alive(s.LauncherPID) {
		t.Error("the launcher lives")
	}
}

// fakeWatchdog answers the first messages of the guard link and is silent from then on.
func fakeWatchdog(t *testing.T, answers int, giveUp chan struct{}) *guard {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		buf := make([]byte, 8<<10)
		for range answers {
			n, _, err := ipc.RecvPacket(fds[1], buf, 1)
			for errors.Is(err, ipc.ErrWouldBlock) {
				_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fds[1]), Events: unix.POLLIN}}, -1)
				n, _, err = ipc.RecvPacket(fds[1], buf, 1)
			}
			if err != nil {
				t.Error(err)
				return
			}
			m, err := ipc.DecodeGuard(buf[:n])
			if err != nil {
				t.Error(err)
				return
			}
			reply := ipc.GuardMessage{Kind: ipc.GuardAck, Seq: m.Seq}
			if m.Kind == ipc.GuardHello {
				reply = ipc.GuardMessage{Kind: ipc.GuardWelcome, Seq: m.Seq, PID: 1, Text: "test"}
			}
			if err := ipc.SendPacket(fds[1], reply.Append(nil), nil); err != nil {
				t.Error(err)
			}
		}
	}()
	g, err := newGuard(fds[0], "test", "run", time.Second, func(*eventKind, ...slog.Attr) {}, func(error) {}, giveUp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		<-answered
		g.close()
		_ = unix.Close(fds[1])
	})
	return g
}

// While the watchdog is silent a spawn waits, and says so; it waits no longer than the agent lives.
func TestASilentWatchdogHoldsUpNoStop(t *testing.T) {
	giveUp := make(chan struct{})
	g := fakeWatchdog(t, 1, giveUp)
	asked := make(chan error, 1)
	go func() { asked <- g.ask(ipc.GuardMessage{Kind: ipc.GuardPool, Value: 1, Text: "p"}, nil, noLimit) }()
	await(t, 10*time.Second, "silent", func() bool { return g.status().State == "silent" })
	select {
	case err := <-asked:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	close(giveUp)
	if err := <-asked; err != errStopping {
		t.Errorf("%v", err)
	}
}

func TestAnAskOfTheWatchdogHasItsLimit(t *testing.T) {
	g := fakeWatchdog(t, 2, nil)
	if err := g.ask(ipc.GuardMessage{Kind: ipc.GuardPool, Value: 1, Text: "p"}, nil, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := g.ask(ipc.GuardMessage{Kind: ipc.GuardPool, Value: 1, Text: "p"}, nil, 50*time.Millisecond); err != errWatchdogSilent {
		t.Errorf("%v", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) != 0 {
		t.Errorf("%d answers are still waited for", len(g.waiting))
	}
}

func TestALostWatchdogEndsEveryWait(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(fds[1])
	_, err = newGuard(fds[0], "test", "run", time.Second, func(*eventKind, ...slog.Attr) {}, func(error) {}, nil)
	if err == nil || !strings.Contains(err.Error(), "cannot shake hands") {
		t.Errorf("%v", err)
	}
}
