package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
)

const (
	// killPatience is how long a keeper may take to carry out an order to kill before the agent kills the worker itself.
	killPatience = 2 * time.Second
	// keeperPatience is how long a keeper may take to empty a tree after its last KILL before it is killed in turn, which
	// hands its children to the launcher; not if the kernel says that one of them outlives KILL.
	keeperPatience = 5 * time.Second
	// cutPatience is the time between EOF on a worker's socket and the verdict that the link is cut while the process
	// lives: a dying process closes its sockets a moment before its pidfd becomes readable.
	cutPatience = 200 * time.Millisecond
	// lastWords is how long a dead process's output is read for what it said before its death: what it left behind may hold
	// the pipes open.
	lastWords = 100 * time.Millisecond
	// lastFrames is the same for its sockets and its keeper's word, which nobody else can hold back: only a loaded host is late.
	lastFrames = 2 * time.Second
)

// worker is one slot's process with its keeper, from the order to spawn it until its tree is proven empty. Its run
// goroutine is the only one that decides about its life; its readers only report.
type worker struct {
	pool       *pool
	cfg        *poolSettings // those it was started with
	id         string
	index      int
	serial     int
	generation int
	launcher   *launcher
	born       time.Time
	oomKills   uint64 // of the host when it was born

	link       *workerLink
	keeperLink *orderLink
	crash      *crashFile
	out        *output
	cgroup     *cgroup // nil without one; set before it is shown
	keeper     *pidfd
	process    *pidfd
	dumpSignal int

	events chan workerEvent
	orders chan endOrder
	dead   chan struct{} // the process has ended (pidfd)
	read   chan struct{} // the data socket has been read to its end
	heard  chan struct{} // the control socket has been read to its end
	done   chan struct{} // the tree is proven empty, or nobody can prove it any more
	wg     sync.WaitGroup

	life  workerLife  // owned by run
	shown workerShown // guarded by pool.mu
}

// workerLife is what the run goroutine knows; nobody else touches it.
type workerLife struct {
	watch     *watch
	deadlines deadlines
	exited    *keeperReport // the keeper's word on the worker's end
	failure   *Error        // why it could not start
	killer    string        // who ended it and why
	evidence  string        // on what
	lastCall  uint64        // that its death ended; 0 for none
	died      time.Time     // when its death was noticed
	stack     string        // dumped before a kill
	stage     endStage
	ordered   bool // somebody else than its own loop told it to end
	listening bool // its two sockets have readers
	proven    bool // its keeper has ended with status 0, or it never had one: its tree is empty
	mute      bool // its keeper's link is at its end: no word on the worker's end will come
	killed    int  // processes that its keeper had to kill of what it left
	// unkillable says that the verdict was told, and with it how its slot and its call ended.
	unkillable bool
}

// workerShown is what others see of a worker; every access holds pool.mu.
type workerShown struct {
	state       workerState
	current     *call
	calls       uint64
	doing       progress // while it starts
	heartbeat   HeartbeatStatus
	pid, keeper int
	readyAt     time.Time
	exited      bool        // the process is dead
	unkillable  string      // who outlives KILL and where the kernel holds it; empty for nobody
	condemned   bool        // a KILL is decided: what it still says (a stack dump wakes a sleep) is no answer
	stop        stopRequest // how far the pool has told it to end
}

type stopOrder struct {
	Op      string `json:"op"`
	GraceUS int64  `json:"grace_us"`
}

type goOrder struct {
	Adapter       string `json:"adapter"`
	Workdir       string `json:"workdir"`
	PayloadLimit  int64  `json:"payload_limit"`
	Pool          string `json:"pool"`
	Worker        string `json:"worker"`
	Index         int    `json:"index"`
	RunID         string `json:"run_id"`
	Serialization string `json:"serialization"`
}

func newWorker(p *pool, cfg *poolSettings, l *launcher, index, serial int) *worker {
	return &worker{pool: p, cfg: cfg, id: fmt.Sprintf("%s-%d.%d", p.name, index, serial), index: index, serial: serial, generation: l.generation,
		launcher: l, born: time.Now(), oomKills: oomKills(p.agent.vmstat), shown: workerShown{state: stateStarting},
		events: make(chan workerEvent, 32), orders: make(chan endOrder, 8),
		dead: make(chan struct{}), read: make(chan struct{}), heard: make(chan struct{}), done: make(chan struct{})}
}

// run is the whole life of a worker. The pool joins it through done.
func (w *worker) run() {
	defer close(w.done)
	switch err := w.launch(); {
	case err == nil:
		w.serve()
	case errors.Is(err, errEnded):
		w.life.ordered = true
		w.abort()
	default:
		w.life.failure = asError(err, w.pool.name)
		w.abort()
	}
	w.end()
}

// errEnded is a start that an order to end broke off; it is no failure.
var errEnded = errors.New("ended while it started")

// launch spawns keeper and worker and opens the start gate. Whatever it has built when it fails, abort and end take down.
func (w *worker) launch() error {
	files, err := w.open()
	if err != nil {
		return err
	}
	cfg := w.cfg
	reply, err := w.launcher.spawn(spawnOrder{Op: "spawn", Worker: w.id, Index: w.index, GraceUS: cfg.Timeouts.Kill.Microseconds(),
		Env: workerEnv(&cfg.PoolConfig, w.index), NoFile: cfg.Limits.NoFile, Core: int64(cfg.Limits.Core)}, files)
	closeFiles(files)
	if err != nil {
		return err
	}
	began := lookAtLauncher(w.launcher.process.pid)
	timeout := time.NewTimer(cfg.Timeouts.Start)
	defer timeout.Stop()
	select {
	case r := <-reply:
		if r.Op == "refused" {
			return failf(PoolFailed, "launcher of pool %q refused to start a worker: %s: %s", cfg.Name, r.Reason, r.Message)
		}
		// A launcher that has died meanwhile left the keeper to us.
		if w.keeper, err = openChildPidfd(r.Keeper, w.launcher.process.pid, w.pool.agent.pid); err != nil {
			return err
		}
		w.pool.agent.children.expect(w.keeper)
	case <-w.launcher.dead:
		return errLauncherDead
	case <-w.orders:
		w.launcher.giveUp(w.id, reply)
		return errEnded
	case <-timeout.C:
		w.launcher.giveUp(w.id, reply)
		if !began.starved() {
			w.pool.launcherHangs(w.launcher)
		}
		return failf(PoolFailed, "launcher of pool %q did not fork within %s", cfg.Name, cfg.Timeouts.Start)
	}
	w.wg.Go(w.readKeeper)
	return w.openGate(timeout.C)
}

// open creates the agent's ends of everything and returns the worker's, in the order of PROTOCOL.md §2.
func (w *worker) open() ([]*os.File, error) {
	keeperLink, keeperTheirs, err := newOrderLink("keeper of " + w.id)
	if err != nil {
		return nil, err
	}
	w.keeperLink = keeperLink
	files := []*os.File{keeperTheirs}
	link, sockets, err := newWorkerLink(w.id)
	if err != nil {
		closeFiles(files)
		return nil, err
	}
	w.link = link
	files = append(files, sockets...)
	if w.crash, err = newCrashFile(w.id, w.pool.agent.options.RuntimeDir); err != nil {
		closeFiles(files)
		return nil, err
	}
	out, pipes, err := newOutput(w.pool.sink(w.id), w.callInFlight, &w.pool.agent.buffers.output)
	if err != nil {
		closeFiles(files)
		return nil, err
	}
	w.out = out
	crash, err := dupFile(w.crash.file)
	if err != nil {
		closeFiles(append(files, pipes...))
		return nil, err
	}
	return append(append(files, crash), pipes...), nil
}

// openGate waits for the keeper's word, takes handles of both processes, places them under the watchdog, and lets the
// worker go. No tool code runs before the watchdog has acknowledged.
func (w *worker) openGate(timeout <-chan time.Time) error {
	var report *keeperReport
	for report == nil {
		select {
		case ev := <-w.events:
			switch {
			case ev.keeper != nil && ev.keeper.Op == "worker":
				report = ev.keeper
			case ev.keeper != nil && ev.keeper.Op == "refused":
				return failf(PoolFailed, "keeper of %s refused: %s: %s", w.id, ev.keeper.Reason, ev.keeper.Message)
			case ev.cut != nil:
				w.life.mute = ev.mute // nothing but the keeper's link is read so far
				return fmt.Errorf("cannot start %s: its keeper ended: %w", w.id, ev.cut)
			}
		case <-w.orders:
			return errEnded
		case <-timeout:
			return failf(PoolFailed, "keeper of %s did not start a worker within %s", w.id, w.cfg.Timeouts.Start)
		}
	}
	process, err := openChildPidfd(report.PID, w.keeper.pid)
	if err != nil {
		return err
	}
	w.process, w.dumpSignal = process, report.DumpSignal
	w.wg.Go(func() { _ = w.process.wait(); close(w.dead) })
	a := w.pool.agent
	if w.cgroup, err = a.cgroups.enter(w.pool.name, w.id, &w.cfg.Limits, w.process.pid); err != nil {
		return err
	}
	raiseOOMScore(w.process.pid, workerOOMScore)
	if err := w.keeperLink.send(plainOrder{Op: "seen"}); err != nil {
		return fmt.Errorf("cannot answer the keeper of %s: %w", w.id, err)
	}
	g := a.guard
	if err := g.guard(guardKeeper, "keeper of "+w.id, w.keeper); err != nil {
		return err
	}
	if err := g.guard(guardWorker, w.id, w.process); err != nil {
		return err
	}
	for what, p := range map[string]*pidfd{"keeper of " + w.id: w.keeper, "worker " + w.id: w.process} {
		if err := a.record.add(what, p); err != nil {
			return err
		}
	}
	w.pool.showProcess(w)
	w.life.listening = true
	w.wg.Go(w.readControl)
	w.wg.Go(w.readData)
	cfg := w.cfg
	order, err := json.Marshal(goOrder{Adapter: cfg.Adapter, Serialization: cfg.Serialization, Workdir: cfg.Workdir, PayloadLimit: int64(cfg.Limits.Payload),
		Pool: w.pool.name, Worker: w.id, Index: w.index, RunID: a.runID})
	if err != nil {
		return err
	}
	return w.link.sendControl(&ipc.Frame{Type: ipc.Go, JSON: order})
}

// abort takes down what a failed launch has built. A keeper collects its dead worker only when we have seen it or are gone:
// without a handle of the worker the link must end, too.
func (w *worker) abort() {
	if w.keeperLink != nil {
		_ = w.keeperLink.send(plainOrder{Op: "kill"})
		if w.process == nil {
			w.keeperLink.close()
		}
	}
}

func (w *worker) callInFlight() uint64 {
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	if w.shown.current == nil {
		return 0
	}
	return w.shown.current.id
}
