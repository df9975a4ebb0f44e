package watchdog

import (
	"os"
	"strings"
	"syscall"
)

// The Go runtime allocates per processor at its start: an idle watchdog is 0.6 MB on one and 3.4 MB on 64. It needs one. The
// number, and a heap that is collected from 1 MB on instead of 4 MB, can only be given to a runtime that has not started. Not earlier
// than 1 MB, because a first collection costs 0.4 MB by itself: 1 000 keepers and workers are guarded without one, and a beat
// allocates nothing.
const (
	envTuned    = "PITBOSS_TUNED"
	envKeep     = "PITBOSS_KEEP_" // prefix of the values that the agent gets back
	tunedProcs  = "GOMAXPROCS=1"
	tunedGC     = "GOGC=25"
	namesToKeep = "GOMAXPROCS GOGC"
)

// tune executes the own binary once more, in the same process, with the runtime's settings and a raised priority, which are then those
// of all its threads. It returns when that has happened before, or when it cannot be done: the watchdog is then larger and later.
func tune(args []string) {
	if os.Getenv(envTuned) != "" {
		return
	}
	self, err := os.Executable()
	if err != nil {
		return
	}
	env := tunedEnv(os.Environ())
	was, raised := raise()
	if raised {
		env = append(env, envNice+"="+itoa(was))
		raiseSession()
	}
	_ = syscall.Exec(self, append([]string{os.Args[0]}, args...), env)
	if raised {
		lower(was) // the other threads were not raised
	}
}

// tunedEnv sets the runtime's variables and keeps what they were. An enclosing watchdog's niceness is no business of this one.
func tunedEnv(env []string) []string {
	var out []string
	for _, kv := range env {
		if strings.HasPrefix(kv, envNice+"=") {
			continue
		}
		if isTuning(kv) {
			kv = envKeep + kv
		}
		out = append(out, kv)
	}
	return append(out, envTuned+"=1", tunedProcs, tunedGC)
}

// untunedEnv undoes tunedEnv, for the agent.
func untunedEnv(env []string) []string {
	tuned := false
	for _, kv := range env {
		tuned = tuned || strings.HasPrefix(kv, envTuned+"=")
	}
	if !tuned {
		return env
	}
	var out []string
	for _, kv := range env {
		kept, ok := strings.CutPrefix(kv, envKeep)
		switch {
		case ok && isTuning(kept):
			out = append(out, kept)
		case isTuning(kv), strings.HasPrefix(kv, envTuned+"="):
		default:
			out = append(out, kv)
		}
	}
	return out
}

func isTuning(kv string) bool {
	name, _, ok := strings.Cut(kv, "=")
	for _, n := range strings.Fields(namesToKeep) {
		if ok && n == name {
			return true
		}
	}
	return false
}
