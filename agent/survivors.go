package agent

import (
	"fmt"
	"log/slog"
	"strings"
	"syscall"
)

// survivor is a process that KILL did not end, as its guardian reports it (PROTOCOL.md §2).
type survivor struct {
	PID   int    `json:"pid"`
	Errno int    `json:"errno"` // of the KILL; 0: it was sent
	State string `json:"state"` // letter of /proc/PID/stat; empty when it cannot be read
	WChan string `json:"wchan"` // kernel function it waits in; empty when it cannot be read
}

// cause is why it is still there.
func (s survivor) cause() string {
	if s.Errno != 0 {
		return "cannot send KILL: " + syscall.Errno(s.Errno).Error()
	}
	return "KILL was sent and is pending"
}

func (s survivor) String() string {
	text := fmt.Sprintf("%d (%s", s.PID, s.cause())
	if s.State != "" {
		text += "; state " + s.State
	}
	if s.WChan != "" && s.WChan != "0" {
		text += " in " + s.WChan
	}
	return text + ")"
}

func survivorsText(all []survivor) string {
	texts := make([]string, len(all))
	for i, s := range all {
		texts[i] = s.String()
	}
	return strings.Join(texts, ", ")
}

// fields are those of an event about it.
func (s survivor) fields() []slog.Attr {
	fields := []slog.Attr{slog.Int("pid", s.PID), slog.String("cause", s.cause())}
	if s.State != "" {
		fields = append(fields, slog.String("state", s.State))
	}
	if s.WChan != "" && s.WChan != "0" {
		fields = append(fields, slog.String("wchan", s.WChan))
	}
	return fields
}
