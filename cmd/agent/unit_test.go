package main

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/agent"
)

func TestUnitDeadlines(t *testing.T) {
	cfg := agent.Default() // agent_timeout 8 s
	pool := agent.DefaultPool()
	pool.Timeouts.Drain, pool.Timeouts.Kill = 30*time.Second, 3*time.Second
	cfg.Pools = []agent.PoolConfig{pool}
	shipped := unit{name: "pitboss.service", stop: 90 * time.Second, abort: 30 * time.Second, watchdog: 30 * time.Second}
	long := cfg
	longPool := pool
	longPool.Timeouts.Drain = 5 * time.Minute
	long.Pools = []agent.PoolConfig{pool, longPool}
	slow := cfg
	slow.Watchdog.AgentTimeout = time.Minute
	for _, c := range []struct {
		what   string
		unit   unit
		cfg    agent.Config
		faults []string
	}{
		{"as shipped", shipped, cfg, nil},
		{"no pool", shipped, agent.Default(), nil},
		{"none of them", unit{name: "x.service"}, long, nil},
		{"enough", unit{"x.service", 54 * time.Second, 11 * time.Second, 19 * time.Second}, cfg, nil},
		{"a second less", unit{"x.service", 53 * time.Second, 10 * time.Second, 18 * time.Second}, cfg, []string{"TimeoutStopSec", "TimeoutAbortSec", "WatchdogSec"}},
		{"a long drain", shipped, long, []string{"TimeoutStopSec"}},
		{"a patient watchdog", shipped, slow, []string{"WatchdogSec"}},
	} {
		err := c.unit.check(c.cfg)
		if (err != nil) != (len(c.faults) > 0) {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		var f *codeError
		if err != nil && (!errors.As(err, &f) || f.code != exitConfig || !strings.Contains(err.Error(), "systemctl edit "+c.unit.name)) {
			t.Errorf("%s: %#v", c.what, err)
		}
		for _, key := range []string{"TimeoutStopSec", "TimeoutAbortSec", "WatchdogSec"} {
			named := err != nil && strings.Contains(err.Error(), key+"=")
			if named != strings.Contains(strings.Join(c.faults, " "), key) {
				t.Errorf("%s: %s named %v in %v", c.what, key, named, err)
			}
		}
	}
}

func TestUsec(t *testing.T) {
	for _, c := range []struct {
		value any
		want  time.Duration
	}{{uint64(90_000_000), 90 * time.Second}, {uint64(0), 0}, {uint64(math.MaxUint64), 0}, {nil, 0}, {"90", 0}} {
		if got := usec(c.value); got != c.want {
			t.Errorf("%v: %s", c.value, got)
		}
	}
}

// The runtime directory of a service is its own, and everything that the agent writes is in it.
func TestAServiceUsesItsRuntimeDirectory(t *testing.T) {
	h := newHost(t)
	h.env = append(h.env, "RUNTIME_DIRECTORY="+h.path("own")+":"+h.path("second"))
	s := h.serve(onePool)
	for _, name := range []string{"own/agent.lock", "own/run.jsonl"} {
		h.awaitFile(name)
	}
	if _, err := s.status(); !err {
		t.Error("no status")
	}
	if found := read(t, h.path("own/run.jsonl")); !strings.Contains(found, "worker default-") {
		t.Errorf("record: %s", found)
	}
}
