package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Whom a row of the kill matrix kills, and when.
var (
	targets = []string{"agent", "watchdog", "launchers", "keeper", "agent+watchdog", "agent+watchdog+launchers"}
	phases  = []string{"starting", "idle", "mid-call", "mid-stream"}
)

// longKills is how often each cell of the matrix is run by `verify --long`: 24 cells and those beside them, more than 1 000 kills.
const longKills = 42

// What the rounds of a cell count.
const (
	sawTerm    = "workers with one TERM and their grace"
	termLast   = "of them, with TERM as their last signal"
	diaryShows = "of them, with a diary that shows the grace"
	notRun     = "workers that the host did not run in their grace"
)

// killScenarios kill every part in every phase. What remains of the agent afterwards is checked against the death table,
// and then killed, so each round ends with an empty tree and says how long that took.
func killScenarios() []Scenario {
	var all []Scenario
	for _, names := range targets {
		for _, phase := range phases {
			all = append(all, killScenario(names, phase))
		}
	}
	for _, names := range []string{"agent", "watchdog", "agent+watchdog", "agent+watchdog+launchers"} {
		all = append(all, Scenario{Name: "kill-" + dashed(names) + "-coming-up", What: "SIGKILL of " + listed(names) + " at any moment of the first second",
			Expect: "an empty tree", Rounds: 1, Long: longKills, Run: func(r *Round) { killComingUp(r, names) }})
	}
	for _, names := range []string{"agent", "watchdog", "keeper", "agent+watchdog+launchers"} {
		s := killScenario(names, "mid-call")
		s.Name = "cgroup-" + s.Name
		s.What += ", in a delegated cgroup"
		s.Cannot = NeedsCgroup
		s.Run = func(r *Round) { killOnce(r, names, "mid-call", delegated) }
		all = append(all, s)
	}
	return all
}

func killScenario(names, phase string) Scenario {
	while := map[string]string{"starting": "while workers start", "idle": "while workers idle", "mid-call": "mid-call", "mid-stream": "mid-stream"}[phase]
	return Scenario{Name: "kill-" + dashed(names) + "-" + phase,
		What:   "SIGKILL of " + listed(names) + " " + while + ", with escapees that ignore TERM",
		Expect: "the death table, one TERM and the whole grace for each worker, an empty tree",
		Rounds: 1, Long: longKills, Run: func(r *Round) { killOnce(r, names, phase) }, Check: checkDiaries}
}

func dashed(names string) string { return strings.ReplaceAll(names, "+", "-") }
func listed(names string) string { return strings.ReplaceAll(names, "+", " and ") }

// enoughDiaries is from how many on their share is judged.
const enoughDiaries = 30

// checkDiaries: a diary is the worker's own proof of its grace; a loaded machine may keep some from writing, not most of many.
func checkDiaries(counts map[string]int) error {
	if counts[sawTerm]+counts[notRun] >= enoughDiaries && counts[notRun] > counts[sawTerm] {
		return fmt.Errorf("the host did not run %d workers in their grace, and only %d tell of their TERM", counts[notRun], counts[sawTerm])
	}
	if counts[termLast] >= enoughDiaries && counts[diaryShows]*2 < counts[termLast] {
		return fmt.Errorf("the diaries of only %d of %d workers show their grace", counts[diaryShows], counts[termLast])
	}
	return nil
}

// killOnce is one round.
func killOnce(round *Round, names, phase string, change ...func(*Options)) {
	r := startVictims(round, phase == "starting", change...)
	r.descend()
	r.enter(phase)
	if want := len(change) > 0; want != (r.outcome.Tier == "cgroup") {
		r.Fatalf("tier %q is not the one that was asked for%s", r.outcome.Tier, r.logs())
	}
	moment := time.Duration(r.random.Int64N(int64(5 * time.Millisecond)))
	victims := r.victims(names, r.random)
	var below []*Process
	keeper := 0
	if names == "keeper" {
		keeper = r.aKeeperOfA(r.random)
		victims, below = []*Process{r.keepers[keeper]}, r.belowKeeper(keeper)
	}
	<-time.After(moment) // the moment itself: it only has to be another one each time
	r.moment = time.Now()
	for _, p := range victims {
		p.Kill(syscall.SIGKILL)
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
		r.agent.Process.Kill(syscall.SIGKILL) // these two the agent survives: end it for the count
	}
	r.Empty(limit)
	code := r.agent.ExitCode()
	r.checkGraces()
	if !strings.Contains(names, "watchdog") {
		r.checkEnd(code)
	}
}

// delegated gives the agent the round's cgroup for its own, as a unit with Delegate= does: tier cgroup.
func delegated(o *Options) { o.Env = append(o.Env, "PITBOSS_CGROUP=delegated") }

// killComingUp kills when launchers, keepers and workers are half there.
func killComingUp(round *Round, names string) {
	r := startVictims(round, false)
	moment := time.Duration(r.random.Int64N(int64(800 * time.Millisecond)))
	<-time.After(moment) // the moment itself
	for i, pid := range ChildrenOf(r.agent.Process.PID) {
		if p, err := Pin(pid); err == nil { // a resolver of interpreters comes and goes
			r.pinned = append(r.pinned, p)
			r.launchers[strconv.Itoa(i)] = p
		}
	}
	if before := len(r.tree.Alive()); before < 2 {
		r.Errorf("%d processes %s after the start%s", before, moment, r.logs())
	}
	for _, p := range r.victims(names, r.random) {
		p.Kill(syscall.SIGKILL)
	}
	r.Empty(limit)
}

// victims are the processes to kill, in a random order.
func (r *victims) victims(names string, random *rand.Rand) []*Process {
	var all []*Process
	for _, name := range strings.Split(names, "+") {
		switch name {
		case "agent":
			all = append(all, r.agent.Process)
		case "watchdog":
			all = append(all, r.agent.Watchdog)
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
func (r *victims) aKeeperOfA(random *rand.Rand) int {
	var all []int
	for i, w := range r.workers {
		if w.pool == poolA {
			all = append(all, i)
		}
	}
	return all[random.IntN(len(all))]
}

// checkGraces: every worker saw exactly one TERM and was not killed before its grace was over. A diary counts only where TERM was
// the last signal, because the file's time is that of its last byte.
func (r *victims) checkGraces() {
	for _, w := range r.workers {
		<-w.watched
		signals := r.File("signals." + strconv.Itoa(w.PID))
		seen, err := os.ReadFile(signals)
		r.Must(err)
		diary := r.changed(r.File("alive." + strconv.Itoa(w.PID)))
		term := byte(syscall.SIGTERM)
		if len(seen) == 0 && diary.Sub(r.moment.Round(0)) < grace/2 && w.died.Sub(r.moment) >= grace {
			r.Count(notRun, 1) // neither diary nor handler ran: it cannot witness its TERM
			continue
		}
		if n := bytes.Count(seen, []byte{term}); n != 1 {
			r.Errorf("worker %d saw %d TERM of the signals %v, want exactly 1; it lived %s, wrote its last word after %s%s", w.PID, n, seen, w.died.Sub(r.moment), diary.Sub(r.moment.Round(0)), r.logs())
			continue
		}
		if lived := w.died.Sub(r.moment); lived < grace {
			r.Errorf("worker %d lived %s from the kill on, its grace is %s%s", w.PID, lived, grace, r.logs())
			continue
		}
		r.Count(sawTerm, 1)
		if seen[len(seen)-1] != term {
			continue
		}
		r.Count(termLast, 1)
		if diary.Sub(r.changed(signals)) >= grace*7/10 {
			r.Count(diaryShows, 1)
		}
	}
}

func (r *Round) changed(name string) time.Time {
	info, err := os.Stat(name)
	r.Must(err)
	return info.ModTime()
}

// checkEnd: the watchdog has outlived the agent, says what we have counted, and tells its service manager to restart.
func (r *victims) checkEnd(code int) {
	if code != 70 {
		r.Errorf("exit code %d, want 70%s", code, r.logs())
	}
	text, err := os.ReadFile(r.File("agent/last-death.json"))
	r.Must(err)
	var d struct {
		AgentPID  int    `json:"agent_pid"`
		Cause     string `json:"cause"`
		Survivors int    `json:"survivor_count"`
		Proof     string `json:"proof"`
	}
	r.Must(json.Unmarshal(text, &d))
	if d.AgentPID != r.agent.Process.PID || d.Cause != "signal SIGKILL" || d.Survivors != 0 || !strings.HasPrefix(d.Proof, "ECHILD") {
		r.Errorf("certificate %s", text)
	}
}
