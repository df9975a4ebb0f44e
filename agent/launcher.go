package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
)

// boot is the first Python that runs in a launcher (and, by start: exec, in a worker): it drops the implicit first entry
// of sys.path, so that a user's struct.py in the working directory breaks nothing of ours, and puts the library first.
const boot = `import sys
if sys.path and sys.path[0] == "": del sys.path[0]
other = sys.modules.get("pitboss")
if other: sys.exit("pitboss: %s was imported at start-up (by a .pth file?), ahead of the agent's own half; remove it" % other.__file__)
sys.path.insert(0, sys.argv[2])
from pitboss._boot import main
main(sys.argv)
`

// launcher is one generation of a pool's zygote. Its pool owns it; close joins its goroutines.
type launcher struct {
	pool       string
	generation int
	children   *children
	guard      *guard
	log        *slog.Logger
	tellKill   func(pid int, why string) // told before the launcher is killed for what it does not do

	process *pidfd
	link    *orderLink
	out     *output

	python, executable, start string // set before ready is closed
	refused                   string // why it cannot fork; empty when it can
	ready                     chan struct{}
	failure                   *Error        // set before failed is closed
	failed                    chan struct{} // it could not start; failure says why
	heard                     chan struct{} // its link has been read to the end
	end                       string        // how it ended; set before dead is closed
	dead                      chan struct{} // the process has ended and is reaped
	left                      chan struct{} // it outlives KILL, and the agent ends
	killedAt                  atomic.Int64  // when it got KILL first, in ns of the agent's uptime; 0 if it did not
	toldStuck                 bool          // owned by the pool's loop
	uptime                    func() time.Duration

	mu      sync.Mutex
	doing   progress
	missed  int                            // orders that it did not carry out in time
	waiters map[string]chan launcherReport // spawn replies by worker id
	reaps   map[int]chan launcherReport    // reap replies by keeper pid
	wg      sync.WaitGroup
}

// launcherSpec is what a launcher is started with.
type launcherSpec struct {
	pool       string
	generation int
	python     interpreter
	library    string // directory of the extracted Python half
	env        []string
	init       initOrder
	timeout    time.Duration // for hello and for the preload
	tellKill   func(pid int, why string)
	uptime     func() time.Duration
}

// startLauncher starts the process; the caller then waits on ready, failed or dead. It is placed under the watchdog before
// it gets its orders, and not by the caller: a silent watchdog must not hold up the pool's loop.
func startLauncher(spec launcherSpec, c *children, g *guard, buffers *buffers, log *slog.Logger, sink outputSink) (*launcher, error) {
	l := &launcher{pool: spec.pool, generation: spec.generation, children: c, guard: g, log: log, tellKill: spec.tellKill,
		ready: make(chan struct{}), failed: make(chan struct{}), heard: make(chan struct{}), dead: make(chan struct{}), left: make(chan struct{}), uptime: spec.uptime,
		waiters: map[string]chan launcherReport{}, reaps: map[int]chan launcherReport{}}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", os.DevNull, err)
	}
	defer null.Close()
	link, theirs, err := newOrderLink("orders of launcher " + spec.pool)
	if err != nil {
		return nil, err
	}
	out, pipes, err := newOutput(sink, func() uint64 { return 0 }, &buffers.output)
	if err != nil {
		link.close()
		_ = theirs.Close()
		return nil, err
	}
	l.link, l.out = link, out
	argv := []string{spec.python.path, "-c", boot, "launcher", spec.library}
	l.process, err = c.start(spec.python.path, argv, spec.env, "/", []*os.File{null, pipes[0], pipes[1], theirs}, nil)
	closeFiles(append(pipes, theirs))
	if err != nil {
		link.close()
		out.close()
		return nil, err
	}
	l.wg.Go(l.waitDeath)
	l.wg.Go(func() { l.read(spec, &buffers.orders) })
	return l, nil
}

// waitDeath is the one who knows when the launcher is gone: by pidfd, not by EOF, which a leaked descriptor could delay.
func (l *launcher) waitDeath() {
	if l.process.wait() != nil {
		return // left behind
	}
	status, err := l.children.reap(l.process)
	if err != nil {
		l.log.Error("cannot reap a launcher", "pool", l.pool, "pid", l.process.pid, "cause", err)
	}
	l.guard.release(l.process)
	l.hearLastWords()
	l.fail(&Error{Reason: PoolFailed, Pool: l.pool,
		Message: fmt.Sprintf("launcher of pool %q (pid %d) %s", l.pool, l.process.pid, statusText(status))})
	l.end = statusText(status)
	close(l.dead)
	l.link.close()
	l.out.close()
}

// hearLastWords lets a report and output that were sent before the death be read: they say why it died. A process that
// a preload left behind may hold the other ends open, so the wait is short.
func (l *launcher) hearLastWords() {
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	for _, end := range []<-chan struct{}{l.heard, l.out.ended} {
		select {
		case <-end:
		case <-timer.C:
			return
		}
	}
}

// fail records the first failure; once ready it changes nothing.
func (l *launcher) fail(e *Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.ready:
	case <-l.failed:
	default:
		if tail := l.out.tail(); len(tail) > 0 && e.Traceback == "" {
			e.Traceback = joinLines(tail)
		}
		l.failure = e
		close(l.failed)
	}
}

func (l *launcher) read(spec launcherSpec, buffers *orderBuffers) {
	defer close(l.heard)
	if err := l.guard.guard(guardLauncher, "launcher "+spec.pool, l.process); err != nil {
		l.fail(asError(err, l.pool))
		l.kill()
		return
	}
	for {
		report, err := receiveOrder[launcherReport](l.link, buffers)
		if err != nil {
			select {
			case <-l.dead: // our own close
				return
			case <-l.left:
				return
			default:
			}
			if !linkEnded(err) {
				l.log.Error("launcher spoke nonsense; killing it", "pool", l.pool, "pid", l.process.pid, "cause", err)
				l.kill()
			}
			return
		}
		l.handle(spec, report)
	}
}

func (l *launcher) handle(spec launcherSpec, r launcherReport) {
	switch r.Op {
	case "hello":
		l.hello(spec, r)
	case "preloading":
		l.setDoing("preloading " + r.Module)
	case "ready":
		l.becomeReady(r)
	case "failed":
		l.fail(&Error{Reason: PoolFailed, Pool: l.pool, Traceback: r.Traceback,
			Message: fmt.Sprintf("pool %q cannot preload: %s", l.pool, r.Message)})
	case "forked", "refused":
		if !l.answer(l.waiters, r.Worker, r) && r.Op == "forked" {
			l.disown(r.Keeper)
		}
	case "reaped":
		l.answerReap(r)
	}
}

// hello checks that the process we started is the interpreter itself. A wrapper that starts Python as its child would
// stand between us and the launcher: death, parentage and signals would be the wrapper's.
func (l *launcher) hello(spec launcherSpec, r launcherReport) {
	if r.Version != ipc.Version {
		l.fail(&Error{Reason: PoolFailed, Pool: l.pool,
			Message: fmt.Sprintf("the Python half is version %q, this agent %s: another `pitboss` was imported first (a .pth file?); remove it from %s", r.Version, ipc.Version, r.Executable)})
		l.kill()
		return
	}
	if r.PID != l.process.pid || r.PPID != os.Getpid() {
		l.fail(&Error{Reason: PoolFailed, Pool: l.pool, Type: "PYTHON_IS_WRAPPER",
			Message: fmt.Sprintf("interpreter %q is a wrapper that runs Python as its child (pid %d, child of %d); name the interpreter itself: %s",
				spec.python.path, r.PID, r.PPID, r.Executable)})
		l.kill()
		return
	}
	l.python, l.executable = r.Python, r.Executable
	if err := l.link.send(spec.init); err != nil {
		l.log.Error("cannot send a launcher its orders", "pool", l.pool, "cause", err)
		l.kill()
	}
}

// becomeReady counts once, and not after a failure: preloaded code shares the launcher's descriptors and may say anything.
func (l *launcher) becomeReady(r launcherReport) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.ready:
		return
	case <-l.failed:
		return
	default:
	}
	l.doing, l.start = progress{}, r.Start
	if r.Refusal != nil {
		l.refused = r.Refusal.Reason + ": " + r.Refusal.Message
	}
	close(l.ready)
}

func (l *launcher) setDoing(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doing = progress{what, time.Now()}
}

func (l *launcher) progress() progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doing
}

// answer hands a reply to who waits for it; false when nobody does.
func (l *launcher) answer(waiters map[string]chan launcherReport, key string, r launcherReport) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	ch := waiters[key]
	if ch == nil {
		return false
	}
	ch <- r
	delete(waiters, key)
	return true
}

// disown lets the launcher reap a keeper that came too late for its worker: the agent has closed its link, so it ends.
func (l *launcher) disown(keeper int) {
	if err := l.link.send(reapOrder{Op: "reap", Keeper: keeper}); err != nil && !linkEnded(err) {
		l.log.Error("cannot disown a keeper", "pool", l.pool, "keeper", keeper, "cause", err)
	}
}

// giveUp ends the wait for a spawn's reply; one that came in the same moment is disowned.
func (l *launcher) giveUp(worker string, reply <-chan launcherReport) {
	l.mu.Lock()
	delete(l.waiters, worker)
	l.mu.Unlock()
	select {
	case r := <-reply:
		if r.Op == "forked" {
			l.disown(r.Keeper)
		}
	default:
	}
}

func (l *launcher) answerReap(r launcherReport) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ch := l.reaps[r.Keeper]; ch != nil {
		ch <- r
		delete(l.reaps, r.Keeper)
	}
}

var errLauncherDead = errors.New("the launcher is dead")

// spawn orders one worker; files are the six descriptors of PROTOCOL.md §2. It returns the reply's channel: `forked` or
// `refused`; a launcher that dies first never answers (watch dead).
func (l *launcher) spawn(order spawnOrder, files []*os.File) (<-chan launcherReport, error) {
	reply := make(chan launcherReport, 1)
	l.mu.Lock()
	l.waiters[order.Worker] = reply
	l.mu.Unlock()
	if err := l.link.send(order, files...); err != nil {
		return nil, fmt.Errorf("cannot order a worker from launcher %d: %w", l.process.pid, err)
	}
	return reply, nil
}

func statusText(status int) string {
	if status < 0 {
		return "died by " + signalName(-status)
	}
	return fmt.Sprintf("exited with code %d", status)
}
