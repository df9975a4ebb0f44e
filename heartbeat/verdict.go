package heartbeat

import (
	"strconv"
	"strings"
)

// Verdict is what the detector thinks of a worker.
type Verdict int

// The verdicts. Death is none of them: it is the pidfd's word, not a ping's.
const (
	Unknown Verdict = iota
	Healthy
	Late
	Busy
	Held
	Blocked
	Lost
)

// verdicts is the table from which names and documentation derive.
var verdicts = [...]struct{ name, meaning, action string }{
	Unknown: {"unknown", "no ping has been answered yet", "wait: the start deadline governs"},
	Healthy: {"healthy", "the last ping was answered", "none"},
	Late:    {"late", "a ping was missed, too few in a row for more", "ping on"},
	Busy:    {"busy", "a call holds the interpreter and makes progress", "wait: the call's own deadline governs"},
	Held:    {"held", "stopped, traced, frozen or throttled; idle and waiting for storage; or its state cannot be read", "send it nothing more, start a substitute; kill at held_limit; back to ready if it answers first"},
	Blocked: {"blocked", "a call holds the interpreter without progress", "send it nothing more, start a substitute; kill at blocked_limit; back to ready if it answers first"},
	Lost:    {"lost", "no call, no excuse, no answer", "kill"},
}

// Verdicts lists all of them.
func Verdicts() []Verdict { return []Verdict{Unknown, Healthy, Late, Busy, Held, Blocked, Lost} }

func (v Verdict) String() string {
	if v < 0 || int(v) >= len(verdicts) {
		return "Verdict(" + strconv.Itoa(int(v)) + ")"
	}
	return verdicts[v].name
}

// MarkdownTable is the table of verdicts for the documentation.
func MarkdownTable() string {
	var b strings.Builder
	b.WriteString("| verdict | means | what is done |\n|---|---|---|\n")
	for _, v := range verdicts {
		b.WriteString("| " + v.name + " | " + v.meaning + " | " + v.action + " |\n")
	}
	return b.String()
}

// Action is what the caller must do after a turn or an answer.
type Action int

// The actions. Hold and Kill are given once per cause.
const (
	None    Action = iota
	Hold           // send the worker nothing more and start a substitute
	Welcome        // a held or blocked worker has answered: it may serve again
	Kill           // dump its stacks, then kill it
	Tell           // the worker is lost, but on_lost says report
)

func (a Action) String() string {
	return [...]string{"none", "hold", "welcome", "kill", "tell"}[a]
}
