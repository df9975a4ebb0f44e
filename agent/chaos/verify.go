package chaos

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// VerifyOptions say what is run.
type VerifyOptions struct {
	Host *Host
	Long bool
	Only []string // names of scenarios; empty: all. A named one runs at least once, whatever the form
	// Rounds overrides how often each scenario runs; 0 leaves it to the scenario.
	Rounds  int
	Seed    uint64     // of what is random about the harm; 0 takes a new one
	Version string     // of pitboss, for the report
	Done    func(*Row) // told about each row when it is done, one at a time
}

// Verify runs the leaking control, then the catalogue, and reports. An interrupted one reports what it has. Its error says
// that nothing could be run; failed rows are the report's.
func Verify(ctx context.Context, o VerifyOptions) (rep *Report, err error) {
	chosen, err := choose(Catalogue(), o.Only)
	if err != nil {
		return nil, err
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	clearPlaces()
	began := time.Now()
	rep = &Report{Schema: 1, Version: o.Version, Started: began.UTC().Truncate(time.Second), Long: o.Long, Seed: o.Seed, Host: o.Host}
	v := &verification{VerifyOptions: o, report: rep}
	if v.bystanders, err = newBystanders(o.Host); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.bystanders.close()) }()
	control := leakingControl()
	v.run(ctx, control, control.Rounds)
	if rep.Rows[0].Result == Pass {
		v.catalogue(ctx, chosen)
	}
	rep.Interrupted = ctx.Err() != nil
	rep.finish(time.Since(began))
	return rep, nil
}

func choose(all []Scenario, names []string) ([]Scenario, error) {
	if len(names) == 0 {
		return all, nil
	}
	var chosen []Scenario
	for _, name := range names {
		i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
		if i < 0 {
			return nil, &UnknownScenarioError{Name: name}
		}
		s := all[i]
		s.Rounds = max(s.Rounds, 1)
		chosen = append(chosen, s)
	}
	return chosen, nil
}

// UnknownScenarioError is a name that the catalogue does not have.
type UnknownScenarioError struct{ Name string }

func (e *UnknownScenarioError) Error() string { return fmt.Sprintf("no scenario is named %q", e.Name) }

// verification is one Verify.
type verification struct {
	VerifyOptions
	bystanders *bystanders
	mu         sync.Mutex // guards report.Rows and calls of Done
	report     *Report
}

// catalogue runs those that mostly wait beside those that measure, and joins both.
func (v *verification) catalogue(ctx context.Context, chosen []Scenario) {
	var waiting sync.WaitGroup
	room := make(chan struct{}, waitingAtOnce)
	var rest, alone []Scenario
	for _, s := range chosen {
		switch {
		case s.Alone:
			alone = append(alone, s)
			continue
		case !s.Waits:
			rest = append(rest, s)
			continue
		}
		waiting.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			v.run(ctx, s, v.rounds(s))
		})
	}
	for _, s := range rest {
		v.run(ctx, s, v.rounds(s))
	}
	waiting.Wait()
	for _, s := range alone {
		v.run(ctx, s, v.rounds(s))
	}
	order := map[string]int{}
	for i, s := range chosen {
		order[s.Name] = i + 1 // the control comes first
	}
	slices.SortStableFunc(v.report.Rows, func(a, b *Row) int { return order[a.Scenario] - order[b.Scenario] })
}

// waitingAtOnce is how many rows that mostly wait run side by side.
const waitingAtOnce = 4

// rounds is how often a scenario is run.
func (v *verification) rounds(s Scenario) int {
	if v.Rounds > 0 {
		return v.Rounds
	}
	return s.rounds(v.Long)
}

// run runs one scenario's rounds into a row.
func (v *verification) run(ctx context.Context, s Scenario, rounds int) *Row {
	row := &Row{Scenario: s.Name, What: s.What, Expect: s.Expect}
	switch {
	case s.Beyond != "":
		row.Result, row.Reason = OutOfContract, s.Beyond
	case s.Cannot != nil && s.Cannot(v.Host) != "":
		row.Result, row.Reason = CannotRun, s.Cannot(v.Host)
	case rounds == 0:
		row.Result = LongForm
	}
	for i := 0; row.Result == "" && i < rounds && ctx.Err() == nil; i++ {
		o := runRound(ctx, v.Host, randomOf(v.Seed, s.Name, i), s.Run)
		for _, said := range v.bystanders.hit() {
			o.Innocents++
			o.Failures = append(o.Failures, "hit an innocent: "+said)
		}
		row.add(i, o)
	}
	if s.Check != nil && row.Runs > 0 && ctx.Err() == nil {
		if err := s.Check(row.Counts); err != nil {
			row.Failures = append(row.Failures, err.Error())
		}
	}
	row.finish(ctx.Err() != nil)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Rows = append(v.report.Rows, row)
	if v.Done != nil {
		v.Done(row)
	}
	return row
}

// randomOf depends on nothing but its arguments.
func randomOf(seed uint64, scenario string, round int) *rand.Rand {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s/%d", scenario, round)
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

func itoa(n int) string { return strconv.Itoa(n) }

// firstLine is the beginning of a failure, for a table.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
