package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"
)

// Call runs a unary tool. The error is always an *Error.
func (a *Agent) Call(ctx context.Context, req *Request) (*Result, error) {
	p, e := a.resolve(req, false)
	if e != nil {
		return nil, e
	}
	return p.call(ctx, req, nil)
}

// Stream runs a stream tool, or a unary one as a stream without chunks. chunk is called for each item, in order, by the
// calling goroutine; its error ends the call.
func (a *Agent) Stream(ctx context.Context, req *Request, chunk func(*Value) error) (*Result, error) {
	p, e := a.resolve(req, true)
	if e != nil {
		return nil, e
	}
	return p.call(ctx, req, chunk)
}

// resolve finds the pool of a request: "pool/tool", the named pool, the only pool, or the one called "default". While a
// pool has not started yet its tools are not known and the call may wait.
func (a *Agent) resolve(req *Request, stream bool) (*pool, *Error) {
	if name, tool, ok := strings.Cut(req.Tool, "/"); ok && req.Pool == "" {
		req.Pool, req.Tool = name, tool
	}
	p, e := a.choosePool(req)
	if e != nil {
		return nil, e
	}
	if e := p.checkTool(req, stream); e != nil {
		e.Message += a.elsewhere(p, req.Tool)
		return p, e
	}
	return p, nil
}

func (a *Agent) choosePool(req *Request) (*pool, *Error) {
	if req.Pool != "" {
		if p := a.pool(req.Pool); p != nil {
			return p, nil
		}
		return nil, &Error{Reason: UnknownPool, Pool: req.Pool, Tool: req.Tool,
			Message: fmt.Sprintf("no pool is named %q; there are: %s%s", req.Pool, strings.Join(a.poolNames(), ", "), nearName(req.Pool, a.poolNames()))}
	}
	pools := a.allPools()
	switch len(pools) {
	case 0:
		return nil, &Error{Reason: UnknownPool, Tool: req.Tool, Message: "no pool is configured: add one under `pools:` in the configuration"}
	case 1:
		return pools[0], nil
	}
	if p := a.pool("default"); p != nil {
		return p, nil
	}
	return nil, &Error{Reason: UnknownPool, Tool: req.Tool,
		Message: fmt.Sprintf("which pool? There is more than one (%s) and none is named \"default\"%s", strings.Join(a.poolNames(), ", "), orElse(a.elsewhere(nil, req.Tool), "; say pool/"+req.Tool))}
}

func (a *Agent) pool(name string) *pool {
	for _, p := range a.allPools() {
		if p.name == name {
			return p
		}
	}
	return nil
}

func (a *Agent) poolNames() []string {
	var names []string
	for _, p := range a.allPools() {
		names = append(names, p.name)
	}
	return names
}

// Tools lists the tools of one pool, or of all for an empty name, sorted by pool and name. It waits for a pool that is
// starting until its first worker has said them. For a pool that has failed it returns that pool's *Error.
func (a *Agent) Tools(ctx context.Context, name string) ([]Tool, error) {
	if name != "" && a.pool(name) == nil {
		_, e := a.choosePool(&Request{Pool: name})
		return nil, e
	}
	var tools []Tool
	for _, p := range a.allPools() {
		if name != "" && p.name != name {
			continue
		}
		p.waitTools(ctx)
		p.mu.Lock()
		for _, t := range p.tools {
			tools = append(tools, t)
		}
		refusal := p.refusal()
		p.mu.Unlock()
		if refusal != nil && refusal.Reason == PoolFailed && name != "" {
			return nil, refusal
		}
	}
	sort.Slice(tools, func(i, j int) bool {
		return tools[i].Pool+"/"+tools[i].Name < tools[j].Pool+"/"+tools[j].Name
	})
	return tools, nil
}

func (a *Agent) workerNames() (names []string) {
	for _, p := range a.allPools() {
		p.mu.Lock()
		names = slices.AppendSeq(names, maps.Keys(p.workers))
		p.mu.Unlock()
	}
	return names
}

// Health says for each pool whether a call would be taken now.
func (a *Agent) Health() map[string]bool {
	health := map[string]bool{}
	for _, p := range a.allPools() {
		p.mu.Lock()
		health[p.name] = p.phase == poolReady || p.phase == poolDegraded
		p.mu.Unlock()
	}
	return health
}

// Ping asks one worker for a sign of life and waits for it until ctx ends.
func (a *Agent) Ping(ctx context.Context, id string) (Pong, error) {
	for _, p := range a.allPools() {
		p.mu.Lock()
		w := p.workers[id]
		p.mu.Unlock()
		if w == nil {
			continue
		}
		answer := make(chan Pong, 1)
		select {
		case w.events <- workerEvent{pong: answer}:
		case <-w.done:
		case <-ctx.Done():
		}
		select {
		case pong := <-answer:
			return pong, nil
		case <-w.done:
			return Pong{}, &Error{Reason: WorkerDied, Worker: id, Message: fmt.Sprintf("worker %s ended before it answered", id)}
		case <-ctx.Done():
			return Pong{}, &Error{Reason: CallTimeout, Worker: id, Message: fmt.Sprintf("worker %s did not answer the ping in time; see its heartbeat in `pitboss status`", id)}
		}
	}
	return Pong{}, &Error{Reason: UnknownWorker, Worker: id, Message: fmt.Sprintf("no worker is named %q; `pitboss status` lists them%s", id, nearName(id, a.workerNames()))}
}

// Status is a snapshot; each pool's part is consistent in itself.
func (a *Agent) Status() Status {
	tier, state := a.tier(), "running"
	if a.draining.Load() {
		state = "draining"
	}
	s := Status{Schema: StatusSchema, Watchdog: a.guard.status(), LastDeath: a.death.certificate,
		Agent: AgentStatus{PID: a.pid, RunID: a.runID, Version: a.options.Version, UptimeS: a.uptime().Seconds(), Tier: tier.String(), TierReason: a.cgroupReason, Lacks: a.lacks, Limits: a.limitStates(),
			Socket: a.options.Socket, Config: a.options.ConfigPath, State: state}, Pools: []PoolStatus{}}
	if a.swept.Killed > 0 || len(a.swept.Left) > 0 || a.swept.Refused != "" {
		s.Swept = &a.swept
	}
	for _, p := range a.allPools() {
		row := p.status(tier.String())
		for _, void := range a.voidLimits(p.cfg()) {
			row.LimitsVoid = append(row.LimitsVoid, "limits."+void.Limit+": "+void.Reason)
		}
		s.Pools = append(s.Pools, row)
	}
	a.meter.fill(&s, time.Now())
	return s
}

func (p *pool) status(tier string) PoolStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PoolStatus{Name: p.name, State: string(p.phase), Queued: len(p.queue), Desired: p.desired, StartMethod: p.cfg().Start,
		Python: p.cfg().py.path, Workers: []WorkerStatus{}, CallsTotal: p.calls, ErrorsTotal: p.errors, RejectedTotal: p.rejected}
	if p.phase == poolFailed {
		s.Reason = p.failure.Message
	}
	s.Waiting = p.waitStatus(time.Now())
	if l := p.launcher; l != nil {
		s.LauncherPID, s.Generation = l.process.pid, l.generation
		select {
		case <-l.ready:
			s.StartMethod, s.StartRefusal = l.start, l.refused
		default:
			s.Doing, s.DoingS = l.progress().shown()
		}
	}
	for _, w := range p.workers {
		row := w.shown.status(w, tier, p.lastExit[w.index])
		switch w.shown.state {
		case stateReady:
			s.Ready++
		case stateBusy:
			s.Busy++
		}
		s.Workers = append(s.Workers, row)
	}
	sort.Slice(s.Workers, func(i, j int) bool {
		return s.Workers[i].Index < s.Workers[j].Index || (s.Workers[i].Index == s.Workers[j].Index && s.Workers[i].ID < s.Workers[j].ID)
	})
	return s
}

func (v *workerShown) status(w *worker, tier, lastExit string) WorkerStatus {
	inFlight := 0
	if v.current != nil {
		inFlight = 1
	}
	s := WorkerStatus{ID: w.id, Index: w.index, Generation: w.generation, PID: v.pid, PGID: v.pid, KeeperPID: v.keeper,
		State: string(v.state), Tier: tier, InFlight: inFlight, CallsTotal: v.calls, Heartbeat: v.heartbeat,
		UptimeS: time.Since(w.born).Seconds(), LastExit: lastExit, Unkillable: v.unkillable}
	s.Doing, s.DoingS = v.doing.shown()
	if v.pid != 0 && w.out != nil { // out is set without the lock, before pid is shown under it: this order, or it is a race
		s.LinesDropped = w.out.dropped.Load()
	}
	return s
}
