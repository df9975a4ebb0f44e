package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Result is how a row has ended.
type Result string

const (
	Pass          Result = "pass"
	Fail          Result = "FAIL"
	CannotRun     Result = "cannot run"
	OutOfContract Result = "out of contract"
	LongForm      Result = "with --long" // takes too long for the short form; --only runs it too
	Interrupted   Result = "interrupted"
)

// Report is what a verify has shown; `verify --json` prints it. Fields are only ever added.
type Report struct {
	Schema      int       `json:"schema"`
	Version     string    `json:"version"`
	Started     time.Time `json:"started"` // UTC
	TookS       float64   `json:"took_s"`
	Long        bool      `json:"long"`
	Seed        uint64    `json:"seed"`
	Interrupted bool      `json:"interrupted,omitempty"`
	OK          bool      `json:"ok"` // no row has failed, and nobody interrupted
	Host        *Host     `json:"host"`
	Rows        []*Row    `json:"rows"`
	Summary     Summary   `json:"summary"`
}

// Summary adds up the rows but the control's.
type Summary struct {
	Rows          int `json:"rows"`
	Passed        int `json:"passed"`
	Failed        int `json:"failed"`
	CannotRun     int `json:"cannot_run"`
	OutOfContract int `json:"out_of_contract"`
	LongForm      int `json:"long_form"`
	Runs          int `json:"runs"`
	Survivors     int `json:"survivors"`
	FalseKills    int `json:"false_kills"`
	Innocents     int `json:"innocents"`
}

// Row is what the rounds of one scenario have shown. Times are in milliseconds, from the harm to the empty tree; there are
// none where the scenario measures none.
type Row struct {
	Scenario   string         `json:"scenario"`
	What       string         `json:"what"`
	Expect     string         `json:"expect,omitempty"`
	Result     Result         `json:"result"`
	Reason     string         `json:"reason,omitempty"` // why it cannot run, or is out of contract
	Tier       string         `json:"tier,omitempty"`   // the lowest that a round has seen
	Runs       int            `json:"runs"`
	Survivors  int            `json:"survivors"`
	FalseKills int            `json:"false_kills"`
	Innocents  int            `json:"innocents"`
	P50MS      *float64       `json:"empty_p50_ms,omitempty"`
	P99MS      *float64       `json:"empty_p99_ms,omitempty"`
	MaxMS      *float64       `json:"empty_max_ms,omitempty"`
	Counts     map[string]int `json:"counts,omitempty"`   // summed over the rounds
	Failures   []string       `json:"failures,omitempty"` // "round N: ..."
	Notes      []string       `json:"notes,omitempty"`    // "round N: ..."

	empty []time.Duration
}

// add takes one round's outcome.
func (r *Row) add(round int, o Outcome) {
	r.Runs++
	r.Survivors += o.Survivors
	r.FalseKills += o.FalseKills
	r.Innocents += o.Innocents
	if o.Emptied {
		r.empty = append(r.empty, o.Empty)
	}
	if r.Tier == "" || weaker(o.Tier, r.Tier) {
		r.Tier = o.Tier
	}
	for what, n := range o.Counts {
		if r.Counts == nil {
			r.Counts = map[string]int{}
		}
		r.Counts[what] += n
	}
	for _, f := range o.Failures {
		r.Failures = append(r.Failures, fmt.Sprintf("round %d: %s", round+1, f))
	}
	for _, n := range o.Notes {
		r.Notes = append(r.Notes, fmt.Sprintf("round %d: %s", round+1, n))
	}
}

// weaker says that the kill tier a promises less than b.
func weaker(a, b string) bool {
	order := []string{"group", "tree", "cgroup"}
	return a != "" && slices.Index(order, a) < slices.Index(order, b)
}

// finish sets the result and the percentiles, by nearest rank.
func (r *Row) finish(interrupted bool) {
	slices.Sort(r.empty)
	at := func(share int) *float64 {
		if len(r.empty) == 0 {
			return nil
		}
		ms := float64(r.empty[(len(r.empty)*share+99)/100-1].Microseconds()) / 1000
		return &ms
	}
	r.P50MS, r.P99MS, r.MaxMS = at(50), at(99), at(100)
	switch {
	case r.Result != "":
	case interrupted:
		r.Result = Interrupted
	case len(r.Failures) > 0: // whatever counts a survivor, a false kill or an innocent fails its round
		r.Result = Fail
	default:
		r.Result = Pass
	}
}

func (rep *Report) finish(took time.Duration) {
	rep.TookS = took.Round(100 * time.Millisecond).Seconds()
	rep.OK = !rep.Interrupted && len(rep.Rows) > 0 && rep.Rows[0].Result == Pass
	for _, r := range rep.Rows[1:] {
		s := &rep.Summary
		s.Rows++
		s.Runs += r.Runs
		s.Survivors += r.Survivors
		s.FalseKills += r.FalseKills
		s.Innocents += r.Innocents
		switch r.Result {
		case Pass:
			s.Passed++
		case CannotRun:
			s.CannotRun++
		case OutOfContract:
			s.OutOfContract++
		case LongForm:
			s.LongForm++
		case Fail:
			s.Failed++
			rep.OK = false
		}
	}
}

// Heading is the first line of the matrix; a Row's String fits below it.
var Heading = fmt.Sprintf(rowFormat, "SCENARIO", "TIER", "RUNS", "SURVIVORS", "FALSE KILLS", "INNOCENTS", "P50 MS", "P99 MS", "MAX MS", "RESULT")

const rowFormat = "%-45s  %-6s  %5s  %9s  %11s  %9s  %6s  %6s  %6s  %s"

// String is one line of the matrix, and a second one with the reason where there is one.
func (r *Row) String() string {
	number := func(n int) string {
		if r.Runs == 0 {
			return "-"
		}
		return itoa(n)
	}
	ms := func(v *float64) string {
		if v == nil {
			return "-"
		}
		return fmt.Sprintf("%.0f", *v)
	}
	tier := r.Tier
	if tier == "" {
		tier = "-"
	}
	line := fmt.Sprintf(rowFormat, r.Scenario, tier, number(r.Runs), number(r.Survivors), number(r.FalseKills), number(r.Innocents), ms(r.P50MS), ms(r.P99MS), ms(r.MaxMS), r.Result)
	switch {
	case r.Reason != "":
		line += "\n    " + r.Reason
	case len(r.Failures) > 0:
		line += "\n    " + firstLine(r.Failures[0])
	}
	return line
}

// String is the matrix as text.
func (rep *Report) String() string {
	lines := []string{Heading}
	for _, r := range rep.Rows {
		lines = append(lines, r.String())
	}
	return strings.Join(append(lines, rep.Total()), "\n")
}

// Total is the last line of the matrix.
func (rep *Report) Total() string {
	s := rep.Summary
	return fmt.Sprintf("%d of %d rows passed, %d failed, %d cannot run here, %d only with --long, %d out of contract; %d runs in %.0f s: %d survivors, %d false kills, %d innocents; seed %d",
		s.Passed, s.Rows, s.Failed, s.CannotRun, s.LongForm, s.OutOfContract, s.Runs, rep.TookS, s.Survivors, s.FalseKills, s.Innocents, rep.Seed)
}
