package agent

import (
	"fmt"
	"log/slog"
	"slices"
	"strconv"
)

// cpuPeriod is the period of a processor limit in µs, the kernel's default (cpu.max).
const cpuPeriod = 100_000

// limitSetting is one file of a worker's cgroup.
type limitSetting struct {
	controller, file, value string
	optional                bool // the file may be missing
}

// settings are the files of the limits that are set. Swap is counted apart in cgroup v2 and is no way out of a limit; a kernel
// without swap has no such file.
func (l *LimitsConfig) settings() (all []limitSetting) {
	if l.Memory > 0 {
		all = append(all, limitSetting{controller: "memory", file: "memory.max", value: strconv.FormatInt(int64(l.Memory), 10)},
			limitSetting{controller: "memory", file: "memory.swap.max", value: "0", optional: true})
	}
	if l.CPU > 0 {
		all = append(all, limitSetting{controller: "cpu", file: "cpu.max", value: fmt.Sprintf("%d %d", max(int64(float64(l.CPU)*cpuPeriod), 1000), cpuPeriod)})
	}
	if l.PIDs > 0 {
		all = append(all, limitSetting{controller: "pids", file: "pids.max", value: strconv.Itoa(l.PIDs)})
	}
	return all
}

// LimitStatus says whether limits of one kind bind workers here: "enforced" (tried at the start of this agent), "trying", or "void"
// with the reason.
type LimitStatus struct {
	Limit  string `json:"limit"` // memory, cpu or pids, as in limits:
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
}

// States of a limit.
const (
	limitTrying   = "trying"
	limitEnforced = "enforced"
	limitVoid     = "void"
)

// limitStates is the present word on every limit.
func (a *Agent) limitStates() []LimitStatus {
	if s := a.limits.Load(); s != nil {
		return *s
	}
	return []LimitStatus{}
}

// noteLimits says of each limit what is known without a try.
func (a *Agent) noteLimits() {
	var states []LimitStatus
	for _, name := range controllers {
		s := LimitStatus{Limit: name, State: limitTrying}
		if s.Reason = a.cgroups.lacks(name, a.cgroupReason); s.Reason != "" {
			s.State = limitVoid
		}
		states = append(states, s)
	}
	a.limits.Store(&states)
}

// tryLimits proves each of the others once: that a file could be written is no proof that the kernel binds anybody.
func (a *Agent) tryLimits() {
	tried := slices.Clone(a.limitStates())
	for i := range tried {
		s := &tried[i]
		if s.State != limitTrying {
			continue
		}
		s.State = limitEnforced
		if err := a.tryLimit(s.Limit); err != nil {
			s.State, s.Reason = limitVoid, err.Error()
		}
	}
	a.limits.Store(&tried)
	for _, p := range a.allPools() {
		a.tellVoidLimits(p.cfg())
	}
}

// voidLimits are the limits of a pool that bind nobody.
func (a *Agent) voidLimits(cfg *poolSettings) (void []LimitStatus) {
	for _, setting := range cfg.Limits.settings() {
		for _, s := range a.limitStates() {
			if s.Limit == setting.controller && s.State == limitVoid && !setting.optional {
				void = append(void, s)
			}
		}
	}
	return void
}

// tellVoidLimits emits an event for each of them.
func (a *Agent) tellVoidLimits(cfg *poolSettings) {
	for _, s := range a.voidLimits(cfg) {
		a.emit(limitNotEnforced, slog.String("pool", cfg.Name), slog.String("limit", "limits."+s.Limit), slog.String("cause", s.Reason))
	}
}
