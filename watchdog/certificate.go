package watchdog

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// certificateFile is where the last certificate lies in the runtime directory.
const certificateFile = "last-death.json"

// maxSurvivors is how many survivors are listed; the count is always exact.
const maxSurvivors = 12

// survivor is a process that could not be brought to an end in time, and what the kernel says about it.
type survivor struct {
	pid    int32
	name   string // as guarded, "" if the agent did not name it
	state  string // letter of proc/PID/stat
	tracer int32  // TracerPid, 0 for none
	wchan  string // kernel function it waits in
	errno  int    // of the KILL, 0 if it was sent
}

// certificate is the record of a death; times are µs. schema 1: fields are only ever added.
type certificate struct {
	runID    string
	agentPID int
	cause    string // "exit N", "signal SIGX", "unknown" (a tracer keeps it), "hang", "abort", "stop timeout"
	// detect is from the return of poll(2) to the recorded death. The time from the death to that return is the kernel's
	// wake-up and cannot be seen from here.
	detect time.Duration
	// empty is from the recorded death to the proof, or to the end of the bounded wait.
	empty     time.Duration
	killed    int
	survivors []survivor
	cgroups   bool // some pool had a cgroup
	guarded   int  // processes that were ever guarded
}

func (c *certificate) tier() string {
	if c.cgroups {
		return "cgroup"
	}
	return "tree"
}

func (c *certificate) proof() string {
	switch {
	case len(c.survivors) > 0:
		return "none"
	case c.cgroups:
		return "ECHILD+populated 0"
	}
	return "ECHILD"
}

// json is the certificate as one line without a line end, shorter than ipc.MaxLine. t_term_us is 0: the watchdog sends no TERM,
// the keepers do.
func (c *certificate) json() []byte {
	b := append([]byte(`{"schema":1,"run_id":`), jsonString(c.runID)...)
	b = appendInt(b, `,"agent_pid":`, int64(c.agentPID))
	b = append(append(b, `,"cause":`...), jsonString(c.cause)...)
	b = appendInt(b, `,"t_detect_us":`, c.detect.Microseconds())
	b = appendInt(b, `,"t_term_us":`, 0)
	b = appendInt(b, `,"t_empty_us":`, c.empty.Microseconds())
	b = appendInt(b, `,"killed":`, int64(c.killed))
	b = append(b, `,"survivors":[`...)
	for i, s := range c.survivors {
		if i == maxSurvivors {
			break
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = s.append(b)
	}
	b = appendInt(b, `],"survivor_count":`, int64(len(c.survivors)))
	b = append(append(b, `,"tier":`...), jsonString(c.tier())...)
	b = append(append(b, `,"proof":`...), jsonString(c.proof())...)
	b = appendInt(b, `,"guarded":`, int64(c.guarded))
	return append(b, '}')
}

func (s *survivor) append(b []byte) []byte {
	b = appendInt(b, `{"pid":`, int64(s.pid))
	b = append(append(b, `,"name":`...), jsonString(s.name)...)
	b = append(append(b, `,"state":`...), jsonString(s.state)...)
	b = appendInt(b, `,"tracer":`, int64(s.tracer))
	b = append(append(b, `,"wchan":`...), jsonString(s.wchan)...)
	b = appendInt(b, `,"errno":`, int64(s.errno))
	return append(b, '}')
}

func appendInt(b []byte, key string, n int64) []byte {
	return strconv.AppendInt(append(b, key...), n, 10)
}

// maxText bounds a text in the certificate, so that the whole line fits into one write to a pipe.
const maxText = 64

// jsonString quotes s as RFC 8259 wants it, cut to about maxText bytes; bytes that are not UTF-8 become U+FFFD.
func jsonString(s string) []byte {
	const hex = "0123456789abcdef"
	b := []byte{'"'}
	for at := 0; at < len(s) && len(b) < maxText; {
		r, n := utf8.DecodeRuneInString(s[at:])
		at += n
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20 || r == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
