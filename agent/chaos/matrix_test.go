package chaos

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	rounds = flag.Int("chaos.rounds", 2, "rounds of each cell of the kill matrix")
	seed   = flag.Uint64("chaos.seed", 0, "seed of what is random about the kills; 0 takes a new one")
)

// Whom a cell kills, and when.
var (
	targets = []string{"agent", "watchdog", "launchers", "keeper", "agent+watchdog", "agent+watchdog+launchers"}
	phases  = []string{"starting", "idle", "mid-call", "mid-stream"}
)

// cell collects the rounds of one target in one phase.
type cell struct {
	name      string
	took      []time.Duration
	survivors int
	workers   int // that saw one TERM and lived through their grace
	last      int // of them, those whose last signal was TERM: the diary can tell
	proven    int // of them, those whose diary does
}

func (c *cell) String() string {
	if len(c.took) == 0 {
		return fmt.Sprintf("%-36s no round came to its end", c.name)
	}
	sort.Slice(c.took, func(i, j int) bool { return c.took[i] < c.took[j] })
	at := func(share int) time.Duration { return c.took[(len(c.took)*share+99)/100-1].Round(time.Millisecond) } // nearest rank
	return fmt.Sprintf("%-36s %3d rounds, %d survivors, empty after p50 %6s p99 %6s max %6s, %d workers with one TERM and their grace, %d/%d by their diary",
		c.name, len(c.took), c.survivors, at(50), at(99), at(100), c.workers, c.proven, c.last)
}

// TestKillMatrix kills every part in every phase. What remains of the agent afterwards is checked against the death table,
// and then killed, so each round ends with an empty tree and says how long that took. A round is replayed by the seed and
// its name, alone or with all others.
func TestKillMatrix(t *testing.T) {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("replay with -chaos.seed=%d", s)
	var cells []*cell
	for _, names := range targets {
		for _, phase := range phases {
			c := &cell{name: names + "/" + phase}
			t.Run(c.name, func(t *testing.T) {
				cells = append(cells, c)
				for i := range *rounds {
					t.Run(strconv.Itoa(i+1), func(t *testing.T) { killOnce(t, c, names, phase, randomOf(s, c.name, i)) })
				}
				if c.proven*2 < c.last {
					t.Errorf("the diaries of only %d of %d workers show their grace", c.proven, c.last)
				}
				t.Log(c)
			})
		}
	}
	report(t, s, cells)
}

// report is the summary of the whole matrix.
func report(t *testing.T, seed uint64, cells []*cell) {
	t.Helper()
	total, survivors, slowest := 0, 0, time.Duration(0)
	var lines []string
	for _, c := range cells {
		lines = append(lines, c.String())
		total, survivors = total+len(c.took), survivors+c.survivors
		for _, d := range c.took {
			slowest = max(slowest, d)
		}
	}
	t.Logf("kill matrix, -chaos.seed=%d, %d processes a round:\n%s\n%d kills, %d survivors, slowest %s", seed, everybody, strings.Join(lines, "\n"), total, survivors, slowest.Round(time.Millisecond))
}

// randomOf depends on nothing but its arguments.
func randomOf(seed uint64, cell string, round int) *rand.Rand {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s/%d", cell, round)
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// killOnce is one round.
func killOnce(t *testing.T, c *cell, names, phase string, random *rand.Rand) {
	r := start(t, phase == "starting")
	r.descend()
	r.enter(phase)
	moment := time.Duration(random.Int64N(int64(5 * time.Millisecond)))
	victims := r.victims(names, random)
	var below []*process
	keeper := 0
	if names == "keeper" {
		keeper = r.aKeeperOfA(random)
		victims, below = []*process{r.keepers[keeper]}, r.belowKeeper(keeper)
	}
	<-time.After(moment) // the moment itself: it only has to be another one each time
	r.moment = time.Now()
	for _, p := range victims {
		p.kill(syscall.SIGKILL)
	}
	switch names {
	case "keeper":
		r.keeperDied(keeper, below, phase)
	case "launchers":
		r.launchersDied(phase)
	case "watchdog":
		r.watchdogDied()
	}
	if names == "keeper" || names == "launchers" {
		r.moment = time.Now()
		r.agent.kill(syscall.SIGKILL) // these two the agent survives: end it for the count
	}
	left, took := r.tree.WaitEmpty(limit)
	c.survivors, c.took = c.survivors+len(left), append(c.took, took)
	for _, s := range left {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.PID))
		wchan, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", s.PID))
		t.Errorf("survivor %+v %q in %q; log:\n%s", s, line, wchan, r.log())
	}
	if len(left) > 0 {
		return
	}
	<-r.waited
	r.checkGraces(c)
	if !strings.Contains(names, "watchdog") {
		r.checkEnd()
	}
}

// victims are the processes to kill, in a random order.
func (r *run) victims(names string, random *rand.Rand) []*process {
	var all []*process
	for _, name := range strings.Split(names, "+") {
		switch name {
		case "agent":
			all = append(all, r.agent)
		case "watchdog":
			all = append(all, r.watchdog)
		case "launchers":
			for _, name := range slices.Sorted(maps.Keys(r.launchers)) {
				all = append(all, r.launchers[name])
			}
		}
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// aKeeperOfA is the index of a random keeper of the pool with two.
func (r *run) aKeeperOfA(random *rand.Rand) int {
	var all []int
	for i, w := range r.workers {
		if w.pool == poolA {
			all = append(all, i)
		}
	}
	return all[random.IntN(len(all))]
}

// checkGraces: every worker saw exactly one TERM and was not killed before its grace was over. The diary is the worker's own
// proof; a loaded machine may keep it from writing, so only the cell asks how many there are. A diary counts only where TERM was the last signal, because the file's time is that of its last byte.
func (r *run) checkGraces(c *cell) {
	r.t.Helper()
	for _, w := range r.workers {
		<-w.watched
		signals := r.file("signals." + strconv.Itoa(w.pid))
		seen, err := os.ReadFile(signals)
		must(r.t, err)
		diary := changed(r.t, r.file("alive."+strconv.Itoa(w.pid)))
		term := byte(syscall.SIGTERM)
		if n := bytes.Count(seen, []byte{term}); n != 1 {
			r.t.Errorf("worker %d saw %d TERM of the signals %v, want exactly 1; it lived %s, wrote its last word after %s; log:\n%s", w.pid, n, seen, w.died.Sub(r.moment), diary.Sub(r.moment.Round(0)), r.log())
			continue
		}
		if lived := w.died.Sub(r.moment); lived < grace {
			r.t.Errorf("worker %d lived %s from the kill on, its grace is %s; log:\n%s", w.pid, lived, grace, r.log())
			continue
		}
		c.workers++
		if seen[len(seen)-1] != term {
			continue
		}
		c.last++
		if diary.Sub(changed(r.t, signals)) >= grace*7/10 {
			c.proven++
		}
	}
}

func changed(t *testing.T, name string) time.Time {
	t.Helper()
	info, err := os.Stat(name)
	must(t, err)
	return info.ModTime()
}

// checkEnd: the watchdog has outlived the agent, says what we have counted, and tells its service manager to restart.
func (r *run) checkEnd() {
	r.t.Helper()
	if code := r.cmd.ProcessState.ExitCode(); code != 70 {
		r.t.Errorf("exit code %d, want 70; log:\n%s", code, r.log())
	}
	text, err := os.ReadFile(r.file("run/last-death.json"))
	must(r.t, err)
	var d struct {
		AgentPID  int    `json:"agent_pid"`
		Cause     string `json:"cause"`
		Survivors int    `json:"survivor_count"`
		Proof     string `json:"proof"`
	}
	must(r.t, json.Unmarshal(text, &d))
	if d.AgentPID != r.agent.pid || d.Cause != "signal SIGKILL" || d.Survivors != 0 || d.Proof != "ECHILD" {
		r.t.Errorf("certificate %s", text)
	}
}
