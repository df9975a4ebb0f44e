package chaos

import (
	"fmt"
	"slices"
)

// SoakReport is what a soak has shown. Times are in milliseconds.
type SoakReport struct {
	OK          bool           `json:"ok"`
	Interrupted bool           `json:"interrupted,omitempty"`
	TookS       float64        `json:"took_s"`
	Workers     int            `json:"workers"`
	Runnable    int            `json:"runnable"`     // processes that want a processor all the time
	AgentStops  int            `json:"agent_stops"`  // of 5 s
	Calls       int64          `json:"calls"`        // short ones, answered
	Burns       int64          `json:"burns"`        // calls that held the GIL in C for 60 s, answered
	Busy        int            `json:"busy"`         // verdicts busy: the pings of a burning call were missed
	Kills       int            `json:"kills"`        // by the event log or by the operating system
	ControlKill bool           `json:"control_kill"` // the same count saw the kill of a worker that was to be killed
	Verdicts    map[string]int `json:"verdicts"`     // changes of verdict, each with its evidence
	// Pongs are answered pings, without those of a burning worker and those that waited for a stopped agent.
	Pongs     int      `json:"pongs"`
	PongP50   float64  `json:"pong_p50_ms"`
	PongP95   float64  `json:"pong_p95_ms"`
	PongP999  float64  `json:"pong_p999_ms"`
	PongMax   float64  `json:"pong_max_ms"`
	Survivors int      `json:"survivors"`
	Failures  []string `json:"failures,omitempty"`
}

// String is the report as text.
func (rep *SoakReport) String() string {
	text := ""
	if rep.Interrupted {
		text = "interrupted: its workers were not counted by the operating system\n"
	}
	return text + fmt.Sprintf("%d workers, %d runnable processes, %.0f s: %d calls, %d that held the GIL in C for %s, the agent stopped %d times for %s: %d kills, %d survivors\n"+
		"%d changes of verdict, each with its evidence: %v\n%d pongs: p50 %.0f ms, p95 %.0f ms, p99.9 %.0f ms, max %.0f ms",
		rep.Workers, rep.Runnable, rep.TookS, rep.Calls, rep.Burns, soakBurn, rep.AgentStops, soakStop, rep.Kills, rep.Survivors,
		rep.changes(), rep.Verdicts, rep.Pongs, rep.PongP50, rep.PongP95, rep.PongP999, rep.PongMax)
}

func (rep *SoakReport) changes() (n int) {
	for _, of := range rep.Verdicts {
		n += of
	}
	return n
}

func (rep *SoakReport) take(prefix string, o Outcome) {
	for _, f := range o.Failures {
		rep.Failures = append(rep.Failures, prefix+f)
	}
	rep.Survivors += o.Survivors
}

// tally brings the report up to what has been seen.
func (s *soak) tally() {
	s.rep.Verdicts, s.rep.Busy = map[string]int{}, 0
	for _, h := range s.events.find(isVerdict) {
		s.rep.Verdicts[h.From+" to "+h.To]++
		if h.To == "busy" {
			s.rep.Busy++
		}
	}
	s.rep.Calls, s.rep.Burns = s.calls.Load(), s.burns.Load()
	s.rep.Kills = max(s.rep.Kills, len(killed(s.events)))
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.pongs)
	s.rep.Pongs = len(s.pongs)
	at := func(share float64) float64 {
		if len(s.pongs) == 0 {
			return -1
		}
		return s.pongs[min(int(share*float64(len(s.pongs))), len(s.pongs)-1)]
	}
	s.rep.PongP50, s.rep.PongP95, s.rep.PongP999, s.rep.PongMax = at(0.5), at(0.95), at(0.999), at(1)
}
