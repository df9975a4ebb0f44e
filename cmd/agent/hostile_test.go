package main

import (
	"bufio"
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
)

const hostilePools = `
access: {clients: {users: [65534]}}
api: {memory: 64MiB}
pools:
  - {name: default, adapter: tools.py, workers: 2, timeouts: {kill: 300ms}, limits: {payload: 16MiB}}
  - {name: other, adapter: tools.py, workers: 2, timeouts: {kill: 300ms}, limits: {payload: 16MiB}}
`

const (
	hostileRounds = 6   // of calls in peace and under attack, by turns
	hostileCalls  = 200 // per round
	// maxGrowth is what an attack may make the agent's memory grow, in bytes: agent.Config.MemoryTarget of these pools.
	maxGrowth = 192 << 20
)

// noise is what a p99 on a machine of two cores that runs other tests too may be off by chance.
var noise = flag.Duration("hostile.noise", 5*time.Millisecond, "what the p99 of others may be off by chance")

// TestHostileClientsCostOthersLittle: while another user misbehaves, calls of others keep their p99 within twice what it is when
// the same attack, with the same load on the machine, is on another agent; the agent stays what it is, and its memory bounded.
func TestHostileClientsCostOthersLittle(t *testing.T) {
	f := newField(t)
	before, _ := f.victim.status()
	for mode := range attacks {
		if mode == controlAttack {
			continue
		}
		t.Run(mode, func(t *testing.T) {
			memory := residentBytes(t, before.Agent.PID)
			peak := memory
			times := f.measure(t, mode, hostileRounds, func() {
				peak = max(peak, residentBytes(t, before.Agent.PID))
				if f.victim.pitboss("status").code != 0 { // somebody new gets in too
					t.Error("root does not get in while another user attacks")
				}
			})
			times.log(t)
			t.Logf("memory %d MiB, at most %d MiB", memory>>20, peak>>20)
			if !times.within() {
				t.Error("the p99 of others is more than twice what it was")
			}
			if peak > memory+maxGrowth {
				t.Errorf("memory grew from %d to %d bytes", memory, peak)
			}
		})
	}
	after, ok := f.victim.status()
	if !ok || after.Agent.PID != before.Agent.PID || after.Agent.RunID != before.Agent.RunID {
		t.Errorf("the agent is another one: %+v", after.Agent)
	}
	for i, w := range after.Pools[0].Workers {
		if w.PID != before.Pools[0].Workers[i].PID {
			t.Errorf("worker %s was replaced: %s", w.ID, w.LastExit)
		}
	}
}

// TestTheInstrumentSeesAnAttack that takes every worker of the pool, with proper calls.
func TestTheInstrumentSeesAnAttack(t *testing.T) {
	times := newField(t).measure(t, controlAttack, 2, func() {})
	times.log(t)
	if times.within() {
		t.Error("calls that wait for others are not seen")
	}
}

// field is an agent that is attacked, and a decoy like it.
type field struct {
	victim, decoy *host
	client        *client.Client
}

func newField(t *testing.T) *field {
	t.Helper()
	return newFieldWith(t, hostilePools)
}

func newFieldWith(t *testing.T, config string) *field {
	t.Helper()
	needRoot(t)
	self, err := os.ReadFile(os.Args[0]) // where it lies only root can run it
	must(t, err)
	f := &field{victim: newHost(t), decoy: newHost(t)}
	for _, h := range []*host{f.victim, f.decoy} {
		must(t, os.Chmod(h.dir, 0o711))
		must(t, os.WriteFile(h.path("attacker"), self, 0o755))
		h.serve(config)
	}
	f.client, err = client.Dial(t.Context(), f.victim.path("pitboss/agent.sock"))
	must(t, err)
	t.Cleanup(func() { _ = f.client.Close() })
	return f
}

// times are the rounds of calls in peace, while a decoy is attacked, and under attack.
type times struct{ peace, decoy, attack rounds }

func (x *times) within() bool {
	return x.attack.quantile(0.99) <= 2*max(x.peace.quantile(0.99), x.decoy.quantile(0.99))+*noise
}

func (x *times) log(t *testing.T) {
	t.Helper()
	for _, q := range []float64{0.5, 0.99} {
		peace, decoy, attack := x.peace.quantile(q), x.decoy.quantile(q), x.attack.quantile(q)
		t.Logf("p%g: %s in peace, %s with the attack on a decoy, %s under attack: %.2f x, %.2f x", 100*q, peace, decoy, attack,
			float64(attack)/float64(peace), float64(attack)/float64(decoy))
	}
}

// measure takes the three kinds of rounds by turns; during is called in each attack.
func (f *field) measure(t *testing.T, mode string, n int, during func()) *times {
	t.Helper()
	var x times
	callsOf(t, f.client) // warm
	for range n {
		x.peace = append(x.peace, callsOf(t, f.client))
		stop := f.decoy.attackBy(t, mode)
		x.decoy = append(x.decoy, callsOf(t, f.client))
		stop()
		stop = f.victim.attackBy(t, mode)
		x.attack = append(x.attack, callsOf(t, f.client))
		during()
		stop()
	}
	return &x
}

// attackBy runs the attacker as another user until stop.
func (h *host) attackBy(t *testing.T, mode string) (stop func()) {
	t.Helper()
	c := as(h.command(h.path("attacker")))
	c.Env = append(c.Env, attackMode+"="+mode, attackSocket+"="+h.path("pitboss/agent.sock"))
	c.Stderr = os.Stderr
	stdin, err := c.StdinPipe()
	must(t, err)
	stdout, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	timer := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
	defer timer.Stop()
	if lines := bufio.NewScanner(stdout); !lines.Scan() || lines.Text() != "attacking" {
		t.Errorf("the attack %q does not begin", mode)
	}
	return func() { _ = stdin.Close(); _ = c.Wait() }
}

func callsOf(t *testing.T, c *client.Client) (took []time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range hostileCalls {
		began := time.Now()
		if sum, err := client.Call[int](ctx, c, "default/add", map[string]any{"a": 1, "b": 2}); err != nil || sum != 3 {
			t.Fatalf("%d %v", sum, err)
		}
		took = append(took, time.Since(began))
	}
	return took
}

// rounds are the times of several rounds of calls.
type rounds [][]time.Duration

// quantile is the lower quartile over the rounds of each round's quantile: what others do on the machine only ever adds to some
// rounds, what an attack costs is in all of them.
func (r rounds) quantile(q float64) time.Duration {
	var each []time.Duration
	for _, took := range r {
		each = append(each, quantile(took, q))
	}
	return quantile(each, 0.25)
}

func quantile(took []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(took))
	return sorted[int(q*float64(len(sorted)-1))]
}

// residentBytes is VmRSS of a process.
func residentBytes(t *testing.T, pid int) int64 {
	t.Helper()
	for line := range strings.Lines(read(t, filepath.Join("/proc", strconv.Itoa(pid), "status"))) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			must(t, err)
			return kib << 10
		}
	}
	t.Fatalf("process %d has no VmRSS", pid)
	return 0
}
