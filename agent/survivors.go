package agent

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// survivor is a process that KILL did not end, as its guardian reports it (PROTOCOL.md §2) or as we see it ourselves.
type survivor struct {
	PID    int    `json:"pid"`
	Errno  int    `json:"errno"`  // of the KILL; 0: it was sent
	State  string `json:"state"`  // letter of /proc/PID/stat; empty when it cannot be read
	WChan  string `json:"wchan"`  // kernel function it waits in; empty when it cannot be read
	Tracer int    `json:"tracer"` // process id; 0 for none
}

// lookAt says what the kernel tells of a process that got KILL, or refused it with that errno, by the thread that keeps it: its leader
// may be a zombie while another one waits in the kernel.
func lookAt(pid int, refused syscall.Errno) survivor {
	s := survivor{PID: pid, Errno: int(refused)}
	dirs, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid)) // none: it is gone
	for _, dir := range dirs {
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		at := bytes.LastIndexByte(stat, ')')
		if err != nil || at < 0 || at+2 >= len(stat) || stat[at+2] == 'Z' || stat[at+2] == 'X' {
			continue
		}
		if s.State = string(stat[at+2]); s.State == "D" || s.State == "t" || s.WChan == "" {
			wchan, _ := os.ReadFile(filepath.Join(dir, "wchan"))
			s.WChan = strings.Trim(string(wchan), "0\n")
		}
		s.Tracer = int(readField(filepath.Join(dir, "status"), "TracerPid:\t"))
		if s.State == "D" || s.State == "t" {
			break
		}
	}
	return s
}

// held says that it is the kernel or a tracer that keeps it, and not a host that had no time to let it die.
func (s survivor) held() bool { return s.State == "D" || s.State == "t" || s.Tracer != 0 }

// cause is why it is still there.
func (s survivor) cause() string {
	switch {
	case s.Errno != 0:
		return "cannot send KILL: " + syscall.Errno(s.Errno).Error()
	case s.State == "D":
		return "in uninterruptible sleep"
	case s.Tracer != 0:
		return fmt.Sprintf("held by its tracer %d", s.Tracer)
	}
	return "KILL was sent and is pending"
}

func (s survivor) String() string {
	text := fmt.Sprintf("process %d (%s", s.PID, s.cause())
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
	if s.Tracer != 0 {
		fields = append(fields, slog.Int("tracer", s.Tracer))
	}
	return fields
}
