package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a round waits for what is not measured.
const patience = 30 * time.Second

// Outcome is what one round has shown.
type Outcome struct {
	Failures   []string // empty: everything held
	Notes      []string // what was measured beside
	Survivors  int
	FalseKills int
	Innocents  int
	Tier       string // the kill tier that was in force; "" when the round did not ask
	Empty      time.Duration
	Emptied    bool // Empty was measured
	Counts     map[string]int
}

// Round is one round of a scenario. Only the goroutine that runs the scenario uses it, but for Errorf, Note, FalseKill and
// Innocent, which anybody may.
type Round struct {
	tree   Tree
	dir    string
	host   *Host
	ctx    context.Context
	random *rand.Rand
	agents []*Agent
	pinned []*Process
	told   bool // a failure shows the logs

	mu       sync.Mutex // guards outcome
	outcome  Outcome
	cleanups []func()
}

// runRound runs one round in a goroutine of its own, because Fatalf ends it, and joins it.
func runRound(ctx context.Context, h *Host, random *rand.Rand, run func(*Round)) Outcome {
	r := &Round{host: h, ctx: ctx, random: random}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.clean()
		if r.prepare() {
			run(r)
		}
	}()
	<-done
	return r.outcome
}

// prepare makes the round's places. The sweep comes before their removal.
func (r *Round) prepare() bool {
	r.tree.Token = fmt.Sprintf("%016x", rand.Uint64())
	dir, held, err := makePlace(r.tree.Token)
	if err != nil {
		r.Errorf("cannot make a directory for the round: %v; set TMPDIR to a place that can be written", err)
		return false
	}
	r.dir = dir
	r.Cleanup(func() { _, _ = os.RemoveAll(dir), held.Close() })
	if r.tree.Cgroup = newCgroup(r.tree.Token); r.tree.Cgroup != "" {
		r.Cleanup(r.removeCgroup)
	}
	r.Cleanup(r.sweep)
	return true
}

// clean runs the cleanups, last in, first out; one that ends itself by Fatalf does not keep the others from running.
func (r *Round) clean() {
	for len(r.cleanups) > 0 {
		last := r.cleanups[len(r.cleanups)-1]
		r.cleanups = r.cleanups[:len(r.cleanups)-1]
		done := make(chan struct{})
		go func() { defer close(done); last() }()
		<-done
	}
}

// sweep ends what a failed round has left, to a fixpoint: what dies may leave a child behind that nobody had seen. All are stopped
// before one is killed, because a fork bomb fills at once the room that a dead one makes.
func (r *Round) sweep() {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if r.tree.Cgroup != "" {
			_ = os.WriteFile(filepath.Join(r.tree.Cgroup, "cgroup.kill"), []byte("1"), 0) // Linux 5.14
		}
		left := r.tree.Alive()
		if len(left) == 0 {
			break
		}
		stopped := map[int]bool{}
		for fresh := true; fresh && time.Now().Before(end); {
			fresh = false
			for _, s := range left {
				if !stopped[s.PID] {
					stopped[s.PID], fresh = true, true
					r.signal(s.PID, unix.SIGSTOP)
				}
			}
			left = r.tree.Alive()
		}
		for _, s := range left {
			r.signal(s.PID, unix.SIGKILL)
		}
	}
	for _, a := range r.agents {
		a.close()
	}
	for _, p := range r.pinned {
		p.close()
	}
}

// signal signals a process of the round, if it is still the one that was seen.
func (r *Round) signal(pid int, number unix.Signal) {
	if p, err := Pin(pid); err == nil {
		if _, still := r.tree.sight(pid, r.tree.members()); still {
			p.Kill(number)
		}
		p.close()
	}
}

// Cleanup runs f at the end of the round, however it ends.
func (r *Round) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

// Dir is the round's directory; its path carries the token, so whoever holds a file in it open is of the round.
func (r *Round) Dir() string { return r.dir }

// File is a path in Dir.
func (r *Round) File(name string) string { return filepath.Join(r.dir, name) }

// Write writes a file in Dir.
func (r *Round) Write(name, text string) {
	if err := os.WriteFile(r.File(name), []byte(text), 0o600); err != nil {
		r.Fatalf("cannot write: %v", err)
	}
}

// Host is where the round runs.
func (r *Round) Host() *Host { return r.host }

// Tree names the round's processes.
func (r *Round) Tree() Tree { return r.tree }

// Context ends when the user interrupts.
func (r *Round) Context() context.Context { return r.ctx }

// Random depends on the seed, the scenario and the round only.
func (r *Round) Random() *rand.Rand { return r.random }

// Errorf fails the round, which goes on.
func (r *Round) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcome.Failures = append(r.outcome.Failures, fmt.Sprintf(format, args...))
}

// Fatalf fails the round and ends it; only the goroutine that runs the scenario may call it.
func (r *Round) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// Must ends the round on an error that the scenario does not expect.
func (r *Round) Must(err error) {
	if err != nil {
		r.Fatalf("%v", err)
	}
}

// Note keeps what was measured beside.
func (r *Round) Note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcome.Notes = append(r.outcome.Notes, fmt.Sprintf(format, args...))
}

// Count adds to a number that the row sums up, for Scenario.Check.
func (r *Round) Count(what string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.outcome.Counts == nil {
		r.outcome.Counts = map[string]int{}
	}
	r.outcome.Counts[what] += n
}

// FalseKill counts a process that was killed and should not have been.
func (r *Round) FalseKill(format string, args ...any) {
	r.mu.Lock()
	r.outcome.FalseKills++
	r.mu.Unlock()
	r.Errorf("killed without need: "+format, args...)
}

// Innocent counts a process that is none of ours and was hit.
func (r *Round) Innocent(format string, args ...any) {
	r.mu.Lock()
	r.outcome.Innocents++
	r.mu.Unlock()
	r.Errorf("hit an innocent: "+format, args...)
}

// Tier notes the kill tier that was in force.
func (r *Round) Tier(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcome.Tier = name
}

// Until waits, patience at most, for a condition that the operating system shows.
func (r *Round) Until(what string, done func() bool) { r.within(patience, what, done) }

// within is Until with a wait of its own, for what takes long.
func (r *Round) within(limit time.Duration, what string, done func() bool) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !done(); <-tick.C {
		switch {
		case r.ctx.Err() != nil:
			r.Fatalf("interrupted while it waited for %s", what)
		case time.Now().After(end):
			r.Fatalf("no %s within %s%s", what, limit, r.logs())
		}
	}
}

// Empty waits until no process of the round is left and keeps how long that took from the call on. Survivors fail the round,
// each with what the kernel says about it.
func (r *Round) Empty(limit time.Duration) time.Duration {
	left, took := r.tree.WaitEmpty(limit)
	r.mu.Lock()
	r.outcome.Survivors += len(left)
	r.outcome.Empty, r.outcome.Emptied = took, true
	r.mu.Unlock()
	for _, s := range left {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.PID))
		wchan, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", s.PID))
		r.Errorf("survivor after %s: %+v %q in %q%s", limit, s, line, wchan, r.logs())
	}
	if len(left) > 0 {
		runtime.Goexit()
	}
	return took
}

// logs are what the agents have written, for the first failure that asks.
func (r *Round) logs() string {
	if r.told {
		return ""
	}
	r.told = true
	text := ""
	for _, a := range r.agents {
		text += "; log:\n" + a.Log()
	}
	return text
}
