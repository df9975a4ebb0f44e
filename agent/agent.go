package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// beatInterval is how often the agent tells the watchdog that its loops answer; beatSlack is how long a loop may take.
const (
	beatInterval = time.Second
	beatSlack    = 3 * time.Second
)

// Options is everything that an Agent is made from.
type Options struct {
	Config     Config
	ConfigPath string // for status; empty for `run`
	Socket     string // path of the API's socket; used when Listeners is empty
	RuntimeDir string // where this agent may write
	LibraryDir string // where the Python library is extracted; others of the same user share it. Default: RuntimeDir
	Version    string // must be the watchdog's
	GuardFD    int    // descriptor of the watchdog's link, -1 without one
	// CgroupDir is the delegated cgroup in whose supervisor/ this process lives; empty without one, and CgroupRefused says why if one
	// was asked for.
	CgroupDir, CgroupRefused string
	Listeners                []net.Listener
	Log                      *slog.Logger
	LogWriter                *LogWriter // where Log goes, so that its losses become an event; nil if it cannot lose anything
	// Output gets the lines of workers and launchers; call is 0 when none was in flight. Nil logs them.
	Output func(pool, process, stream string, call uint64, line string)
	// Reload reads and checks the configuration again; nil for an agent that has no file.
	Reload func() (Config, error)
	// OpenPlace lets those whom `access:` names come as far as the socket, after a reload; nil where that is nobody's to do.
	OpenPlace func(Config) error
}

// Agent owns the pools, the link to the watchdog and the API. New builds it, Run runs it; see doc.go for who owns whom.
type Agent struct {
	options  Options
	log      *slog.Logger
	output   func(pool, process, stream string, call uint64, line string)
	runID    string
	pid      int
	born     time.Time
	library  string
	buffers  buffers
	children *children
	guard    *guard
	cgroups  *cgroups
	access   *access
	pools    atomic.Pointer[[]*pool] // in the order of the config; replaced as a whole by reload
	nextCall atomic.Uint64
	outcomes *outcomes
	vmstat   string // the kernel's counters of the host
	events   *feed[event]
	lines    *feed[outputLine]
	death    lastDeath

	niceness     *niceness                     // nil where the watchdog has raised nothing
	cgroupReason string                        // why cgroups is nil
	lacks        []string                      // see kernelLacks; fixed when New returns
	limits       atomic.Pointer[[]LimitStatus] // replaced as a whole
	meter        memoryMeter
	maxPayload   int         // bytes that the API takes; fixed when it is made
	swept        SweepStatus // fixed when New returns
	record       *runRecord
	grace        atomic.Int64 // see longestGrace; it only grows
	reloading    sync.Mutex   // held by a reload
	naming       sync.Mutex   // held while the holder of something is looked for among all processes
	config       Config       // as it is carried out; guarded by reloading once Run has begun
	poolsMu      sync.Mutex   // held while pools come, go or are told to stop
	behind       []string     // processes that outlive KILL; guarded by poolsMu
	leaving      []*pool      // removed ones that may not have ended; guarded by poolsMu
	poolRuns     sync.WaitGroup

	server    *apiServer
	stop      chan stopRequest // capacity 2: orders to stop
	guardLost chan struct{}    // capacity 1
	health    chan struct{}    // capacity 1: a pool's phase changed
	loops     sync.WaitGroup
	ended     chan struct{} // closed when Run begins to tear down
	draining  atomic.Bool
	drain     chan struct{} // closed when draining becomes true
}

// New builds an agent: it checks the configuration against this host, finds the interpreters, extracts the Python
// library and shakes hands with the watchdog. Nothing is started yet.
func New(o Options) (*Agent, error) {
	a := &Agent{options: o, config: o.Config, log: o.Log, output: o.Output, outcomes: newOutcomes(keptOutcomes), pid: os.Getpid(), born: time.Now(),
		stop: make(chan stopRequest, 2), guardLost: make(chan struct{}, 1), health: make(chan struct{}, 1), ended: make(chan struct{}), drain: make(chan struct{})}
	a.vmstat, a.lacks = "/proc/vmstat", kernelLacks()
	a.events, a.lines = newFeed[event](keptEvents, 0, nil), newFeed(keptOutput, keptOutputBytes, outputLine.size)
	if a.output == nil {
		a.output = a.logOutput
	}
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return nil, fmt.Errorf("cannot make a run id: %w", err)
	}
	a.runID = hex.EncodeToString(id)
	a.grace.Store(int64(o.Config.longestKill()))
	killed, left, err := a.takeCgroup()
	if err != nil {
		return nil, err
	}
	if err := a.checkTiers(o.Config); err != nil {
		return nil, err
	}
	if a.access, err = newAccess(o.Config.Access); err != nil {
		return nil, err
	}
	if a.library, err = extractLibrary(orElse(o.LibraryDir, o.RuntimeDir)); err != nil {
		return nil, err
	}
	a.death = readDeath(o.RuntimeDir)
	var pools []*pool
	for _, cfg := range o.Config.Pools {
		py, err := findInterpreter(cfg.Python, cfg.Workdir, os.Getenv)
		if err != nil {
			return nil, fmt.Errorf("pool %q: %w", cfg.Name, err)
		}
		pools = append(pools, newPool(cfg, a, py))
	}
	a.pools.Store(&pools)
	if o.LogWriter != nil {
		o.LogWriter.TellLosses(func(lines int) { a.emit(logDropped, slog.Int("lines", lines)) })
	}
	a.maxPayload = a.payloadLimit()
	if o.GuardFD >= 0 { // and with it the lock of the runtime directory: nobody else sweeps or records here
		if err := a.sweepAndRecord(); err != nil {
			return nil, err
		}
		a.swept.Killed, a.swept.Left = a.swept.Killed+killed, append(a.swept.Left, left...)
		if a.guard, err = newGuard(o.GuardFD, o.Version, a.runID, a.longestGrace(), a.emit, a.watchdogLost, a.drain); err != nil {
			return nil, err
		}
	}
	if o.GuardFD >= 0 { // else the process is not the agent's alone
		raiseOOMScore(a.pid, agentOOMScore) // before anything is started: it is inherited
		a.niceness = raisedNiceness(os.Getenv(NiceEnv))
	}
	if a.children, err = newChildren(a.niceness, func(pid int) { a.emit(agentStray, slog.Int("pid", pid)) }, func(s survivor) { a.emit(agentStrayLeft, s.fields()...) }); err != nil {
		return nil, err
	}
	return a, nil
}

// longestGrace is the longest time that a keeper of this run may leave between TERM and KILL, so far.
func (a *Agent) longestGrace() time.Duration { return time.Duration(a.grace.Load()) }

// longestKill is the longest timeouts.kill of all pools.
func (c Config) longestKill() time.Duration {
	longest := time.Duration(0)
	for _, p := range c.Pools {
		longest = max(longest, p.Timeouts.Kill)
	}
	return longest
}

// allPools is the pools as they are now; the slice is never written to.
func (a *Agent) allPools() []*pool { return *a.pools.Load() }

// uptime is monotonic and starts at New.
func (a *Agent) uptime() time.Duration { return time.Since(a.born) }

func (a *Agent) logOutput(pool, process, stream string, call uint64, line string) {
	a.log.Info(line, "pool", pool, "worker", process, "stream", stream, "call", call)
}

// Run serves until the agent is stopped: by Stop, by the end of ctx, or by the loss of the watchdog under on_loss: drain.
// It returns only after every worker and launcher is proven gone.
func (a *Agent) Run(ctx context.Context) error {
	listeners := a.options.Listeners
	if len(listeners) == 0 {
		l, err := listenUnix(a.options.Socket, a.options.Config.Access)
		if err != nil {
			return a.endEarly(err, nil)
		}
		listeners = []net.Listener{l}
	}
	for _, p := range a.allPools() {
		if err := a.guardPool(p.name, p.cfg().Timeouts.Kill); err != nil {
			return a.endEarly(err, listeners)
		}
	}
	a.noteLimits()
	memory := newAPIMemory(a.options.Config.API.Memory, a.log)
	a.server = newServer(a, a.access, memory, serverLimits(a.streamLimit(), a.maxPayload)...)
	a.server.SetHealth(a.Health())
	for _, l := range listeners {
		a.loops.Go(func() {
			if err := a.server.Serve(newBoundedListener(l, a.connectionLimit(), memory, a.log)); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				a.log.Error("the API ended", "cause", err)
				a.Stop("the API ended")
			}
		})
	}
	a.emit(agentStarted, slog.Int("pid", a.pid), slog.String("run_id", a.runID), slog.String("version", a.options.Version),
		slog.String("socket", a.options.Socket), slog.Int("pools", len(a.allPools())))
	a.reportLastDeath()
	a.reportSweep()
	a.poolRuns.Go(func() { <-a.drain }) // an agent without pools is no stopped one
	for _, p := range a.allPools() {
		a.poolRuns.Go(p.run)
		p.poke()
	}
	a.loops.Go(a.beatLoop)
	a.loops.Go(a.healthLoop)
	a.loops.Go(a.tryLimits)
	a.guard.notify("READY=1\nSTATUS=" + a.figures())
	if len(a.allPools()) == 0 {
		a.emit(agentIdle, slog.String("config", a.options.ConfigPath))
	}
	stopped := make(chan struct{})
	go func() { a.poolRuns.Wait(); close(stopped) }()
	a.superviseStop(ctx, stopped)
	close(a.ended)
	a.emit(agentStopped, seconds("uptime_s", a.uptime()))
	a.events.close() // their followers are told the end before the server goes
	a.lines.close()
	a.server.Stop()
	a.loops.Wait()
	a.children.close()
	a.record.close()
	if len(a.behind) > 0 { // the pools, which wrote it, have been joined
		return &LeftBehindError{a.behind}
	}
	return nil
}

// endEarly takes down what New built when Run cannot begin.
func (a *Agent) endEarly(err error, listeners []net.Listener) error {
	for _, l := range listeners {
		_ = l.Close()
	}
	a.children.close()
	return err
}

// WaitReady returns nil when every pool is at its target, or the *Error of the first one that failed.
func (a *Agent) WaitReady(ctx context.Context) error {
	for _, p := range a.allPools() {
		if err := p.waitServing(ctx); err != nil {
			return err
		}
	}
	return nil
}

// beatLoop beats while every pool's loop answers. A beat that is left out is what the watchdog judges by.
func (a *Agent) beatLoop() {
	tick := time.NewTicker(beatInterval)
	defer tick.Stop()
	figures, toldAt := "", time.Time{}
	for {
		select {
		case <-tick.C:
		case <-a.ended:
			return
		}
		if now := time.Now(); now.Sub(toldAt) >= figuresEvery {
			figures, toldAt = a.tellFigures(figures), now
		}
		alive := true
		for _, p := range a.allPools() {
			alive = alive && a.uptime()-time.Duration(p.answered.Load()) < beatSlack
			p.poke()
		}
		if alive || a.draining.Load() {
			a.guard.beat(a.Running(), a.draining.Load())
		}
	}
}

// Running is the number of calls that run now.
func (a *Agent) Running() int {
	n := 0
	for _, p := range a.allPools() {
		p.mu.Lock()
		for _, w := range p.workers {
			if w.shown.current != nil {
				n++
			}
		}
		p.mu.Unlock()
	}
	return n
}

func (a *Agent) healthChanged() {
	select {
	case a.health <- struct{}{}:
	default:
	}
}

func (a *Agent) healthLoop() {
	for {
		a.server.SetHealth(a.Health())
		select {
		case <-a.health:
		case <-a.ended:
			return
		}
	}
}

func (a *Agent) payloadLimit() int {
	limit := min(DefaultPool().Limits.Payload, a.options.Config.API.Memory/2) // what a reload may add
	for _, p := range a.allPools() {
		limit = max(limit, p.cfg().Limits.Payload)
	}
	return int(limit)
}
