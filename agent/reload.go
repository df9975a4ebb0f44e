package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// reloadPlan is what a new configuration changes. It is a pure function of the two.
type reloadPlan struct {
	added   []PoolConfig
	removed []string
	resized []resize            // nothing but the number of workers differs
	rolled  []PoolConfig        // other settings differ: new workers take over from the old ones
	keys    map[string][]string // of each rolled pool, what differs
	access  []string            // keys of access: that differ; they hold from the next request on
	later   []string            // other keys of the agent's own: they are read at its start only
}

type resize struct {
	pool     string
	from, to int
}

// planReload compares two valid configurations.
func planReload(old, next Config) reloadPlan {
	plan := reloadPlan{keys: map[string][]string{}}
	before := map[string]PoolConfig{}
	for _, p := range old.Pools {
		before[p.Name] = p
	}
	for _, p := range next.Pools {
		was, known := before[p.Name]
		delete(before, p.Name)
		differs := changedKeys(reflect.ValueOf(was), reflect.ValueOf(p), "")
		switch {
		case !known:
			plan.added = append(plan.added, p)
		case len(differs) == 0:
		case slices.Equal(differs, []string{"workers"}):
			plan.resized = append(plan.resized, resize{p.Name, was.Workers, p.Workers})
		default:
			plan.rolled = append(plan.rolled, p)
			plan.keys[p.Name] = differs
		}
	}
	for _, p := range old.Pools {
		if _, gone := before[p.Name]; gone {
			plan.removed = append(plan.removed, p.Name)
		}
	}
	old.Pools, next.Pools = nil, nil
	plan.access = changedKeys(reflect.ValueOf(old.Access), reflect.ValueOf(next.Access), "access.")
	old.Access, next.Access = AccessConfig{}, AccessConfig{}
	plan.later = changedKeys(reflect.ValueOf(old), reflect.ValueOf(next), "")
	return plan
}

// changedKeys lists the keys, as the file writes them, in which two values of one struct type differ.
func changedKeys(a, b reflect.Value, prefix string) (keys []string) {
	for i := range a.NumField() {
		name, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("yaml"), ",")
		x, y := a.Field(i), b.Field(i)
		switch {
		case x.Kind() == reflect.Struct:
			keys = append(keys, changedKeys(x, y, prefix+name+".")...)
		case (x.Kind() == reflect.Slice || x.Kind() == reflect.Map) && x.Len()+y.Len() == 0: // absent and empty are the same
		case !reflect.DeepEqual(x.Interface(), y.Interface()):
			keys = append(keys, prefix+name)
		}
	}
	return keys
}

// Reload reads the configuration again and makes the pools follow it. A fault in it changes nothing. Pools whose settings
// differ are restarted as Restart does it; one whose new settings cannot start keeps the old ones and is in the error. The
// changes are one line each.
func (a *Agent) Reload(ctx context.Context) (changes []string, err error) {
	defer func() {
		if err != nil {
			a.emit(agentReloadFailed, slog.String("cause", err.Error()))
		}
	}()
	if a.options.Reload == nil {
		return nil, failf(BadArguments, "this agent has no configuration file to reload; `pitboss restart --pool POOL` loads new code")
	}
	if !a.reloading.TryLock() {
		return nil, failf(Draining, "a reload goes on already; wait until it has ended")
	}
	defer a.reloading.Unlock()
	a.notifyReloading()
	defer a.guard.notify("READY=1")
	next, err := a.options.Reload()
	if err != nil {
		return nil, failf(BadArguments, "cannot reload, and nothing was changed: %v", err)
	}
	plan := planReload(a.config, next)
	settings, err := a.prepare(plan)
	if err == nil {
		err = a.record.lengthen(next.longestKill())
	}
	if err != nil {
		return nil, failf(BadArguments, "cannot reload, and nothing was changed: %v", err)
	}
	a.grace.Store(max(a.grace.Load(), int64(next.longestKill())))
	return a.apply(context.WithoutCancel(ctx), plan, next, settings) // whoever asked may leave; half a reload is none
}

// notifyReloading tells a service manager of Type=notify-reload (sd_notify(3)).
func (a *Agent) notifyReloading() {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) == nil {
		a.guard.notify(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
	}
}

// prepare finds what can be wrong with a plan before anything is done.
func (a *Agent) prepare(plan reloadPlan) (map[string]*poolSettings, error) {
	var faults []error
	settings := map[string]*poolSettings{}
	for _, cfg := range slices.Concat(plan.added, plan.rolled) {
		py, err := findInterpreter(cfg.Python, cfg.Workdir, os.Getenv)
		if err != nil {
			faults = append(faults, fmt.Errorf("pool %q: %w", cfg.Name, err))
		}
		if int(cfg.Limits.Payload) > a.maxPayload {
			faults = append(faults, fmt.Errorf("pool %q: limits.payload over %d needs a restart of the agent", cfg.Name, a.maxPayload))
		}
		settings[cfg.Name] = &poolSettings{cfg, py}
	}
	if err := a.checkTiers(Config{Pools: slices.Concat(plan.added, plan.rolled)}); err != nil {
		faults = append(faults, err)
	}
	return settings, errors.Join(faults...)
}

// apply carries a plan out. What the agent regards as its configuration afterwards is what was carried out.
func (a *Agent) apply(ctx context.Context, plan reloadPlan, next Config, settings map[string]*poolSettings) (changes []string, err error) {
	var failed []error
	// What could not be carried out stays as it was, so that the next reload tries it again.
	undone := func(name string, err error) {
		failed = append(failed, err)
		named := func(c PoolConfig) bool { return c.Name == name }
		next.Pools = slices.DeleteFunc(slices.Clone(next.Pools), named)
		if i := slices.IndexFunc(a.config.Pools, named); i >= 0 {
			next.Pools = append(next.Pools, a.config.Pools[i])
		}
	}
	if len(plan.access) > 0 {
		if err := a.changeAccess(next); err != nil {
			failed = append(failed, err)
			next.Access = a.config.Access
		} else {
			changes = append(changes, strings.Join(plan.access, ", ")+": decides from the next request on")
		}
	}
	for _, cfg := range plan.added {
		if err := a.addPool(settings[cfg.Name]); err != nil {
			undone(cfg.Name, err)
			continue
		}
		changes = append(changes, fmt.Sprintf("pool %q: added with %d workers", cfg.Name, cfg.Workers))
	}
	for _, r := range plan.resized {
		if err := a.pool(r.pool).scale(r.to); err != nil {
			undone(r.pool, err)
			continue
		}
		changes = append(changes, fmt.Sprintf("pool %q: workers %d to %d", r.pool, r.from, r.to))
	}
	for _, cfg := range plan.rolled {
		p := a.pool(cfg.Name)
		if err := a.guardPool(cfg.Name, cfg.Timeouts.Kill); err != nil {
			undone(cfg.Name, err)
			continue
		}
		if _, err := p.restart(ctx, "", settings[cfg.Name]); err != nil {
			undone(cfg.Name, err)
			continue
		}
		if err := p.scale(cfg.Workers); err != nil {
			undone(cfg.Name, err)
			continue
		}
		changes = append(changes, fmt.Sprintf("pool %q: restarted with new %s", cfg.Name, strings.Join(plan.keys[cfg.Name], ", ")))
	}
	for _, name := range plan.removed {
		a.removePool(name)
		changes = append(changes, fmt.Sprintf("pool %q: removed; its calls come to their end", name))
	}
	for _, key := range plan.later {
		changes = append(changes, key+": takes effect at the next start of the agent")
	}
	a.config = next
	for _, line := range changes {
		a.emit(agentReloaded, slog.String("change", line))
	}
	if len(failed) > 0 {
		e := *asError(failed[0], "")
		e.Message = errors.Join(failed...).Error()
		return changes, &e
	}
	return changes, nil
}

// changeAccess makes the lists of next decide over new connections and over the next requests of old ones. What a peer has begun
// comes to its end. An inherited socket's mode is the service manager's.
func (a *Agent) changeAccess(next Config) error {
	lists, err := lookUpLists(next.Access)
	if err == nil && a.options.OpenPlace != nil {
		err = a.options.OpenPlace(next)
	}
	if err == nil && len(a.options.Listeners) == 0 {
		err = openSocket(a.options.Socket, next.Access)
	}
	if err != nil {
		return failf(BadArguments, "cannot change who may use the socket, and it stays as it was: %v", err)
	}
	a.access.now.Store(lists)
	return nil
}

// addPool registers a pool and runs it.
func (a *Agent) addPool(s *poolSettings) error {
	if err := a.guardPool(s.Name, s.Timeouts.Kill); err != nil {
		return err
	}
	p := newPool(s.PoolConfig, a, s.py)
	a.tellVoidLimits(s)
	a.poolsMu.Lock()
	defer a.poolsMu.Unlock()
	if a.draining.Load() {
		return failf(Draining, "the agent is stopping")
	}
	pools := append(slices.Clone(a.allPools()), p)
	a.pools.Store(&pools)
	a.poolRuns.Go(p.run)
	p.poke()
	a.healthChanged()
	return nil
}

// removePool takes a pool out of dispatch; what it runs comes to its end.
func (a *Agent) removePool(name string) {
	a.poolsMu.Lock()
	defer a.poolsMu.Unlock()
	p := a.pool(name)
	pools := slices.DeleteFunc(slices.Clone(a.allPools()), func(other *pool) bool { return other == p })
	a.pools.Store(&pools)
	a.leaving = append(slices.DeleteFunc(a.leaving, func(old *pool) bool {
		select {
		case <-old.ended:
			return true
		default:
			return false
		}
	}), p)
	p.requestStop(stopDrain)
	a.healthChanged()
}
