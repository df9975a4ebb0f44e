package agent

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// unkillableAfter is how long a process may outlive the first KILL before it counts as one that nobody can end, if the kernel says
	// that it is held.
	unkillableAfter = 5 * time.Second
	// lookAgain is when one that is not held is looked at again.
	lookAgain = time.Second
)

// stuck is what the kernel says of a process that got KILL and is still there.
type stuck struct {
	pid    int
	state  string // letter of /proc/PID/stat: D in uninterruptible sleep, t held by a tracer
	wchan  string // kernel function that it waits in, "" where the kernel does not say
	tracer int    // 0 for none
}

// lookStuck reads it of the thread that keeps the process: its leader may be a zombie while another one waits in the kernel.
func lookStuck(pid int) stuck {
	s := stuck{pid: pid, state: "?"}
	dirs, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid)) // none: it is gone
	for _, dir := range dirs {
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		at := bytes.LastIndexByte(stat, ')')
		if err != nil || at < 0 || at+2 >= len(stat) || stat[at+2] == 'Z' || stat[at+2] == 'X' {
			continue
		}
		if s.state = string(stat[at+2]); s.state == "D" || s.state == "t" || s.wchan == "" {
			wchan, _ := os.ReadFile(filepath.Join(dir, "wchan"))
			s.wchan = strings.Trim(string(wchan), "0\n")
		}
		s.tracer = int(readField(filepath.Join(dir, "status"), "TracerPid:\t"))
		if s.state == "D" || s.state == "t" {
			break
		}
	}
	return s
}

// killed says whether KILL is on its way to a process: it will not do anything any more.
func killed(pid int) bool {
	for _, key := range []string{"\nSigPnd:\t", "\nShdPnd:\t"} {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		_, after, _ := strings.Cut(string(text), key)
		line, _, _ := strings.Cut(after, "\n")
		if mask, err := strconv.ParseUint(line, 16, 64); err == nil && mask&(1<<(uint(syscall.SIGKILL)-1)) != 0 {
			return true
		}
	}
	return false
}

// childrenOf lists the children of a process (proc(5), Linux 3.5 with CONFIG_PROC_CHILDREN).
func childrenOf(pid int) (children []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for field := range strings.FieldsSeq(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				children = append(children, child)
			}
		}
	}
	return children
}

// held says that it is the kernel or a tracer that keeps it, and not a host that had no time to let it die.
func (s stuck) held() bool { return s.state == "D" || s.state == "t" || s.tracer != 0 }

func (s stuck) String() string {
	text := fmt.Sprintf("process %d is in state %s", s.pid, s.state)
	switch {
	case s.state == "D":
		text = fmt.Sprintf("process %d is in uninterruptible sleep (state D", s.pid)
		if s.wchan != "" {
			text += " in " + s.wchan
		}
		text += ")"
	case s.tracer != 0:
		text = fmt.Sprintf("process %d is held by its tracer %d (state %s)", s.pid, s.tracer, s.state)
	case s.wchan != "":
		text += " in " + s.wchan
	}
	return text
}

func (s stuck) fields() []slog.Attr {
	return []slog.Attr{slog.Int("pid", s.pid), slog.String("state", s.state), slog.String("wchan", s.wchan), slog.Int("tracer", s.tracer)}
}

// unkillable is the verdict on a worker whose process, or what that has left behind, outlives KILL: its call ends now, its slot gets a
// substitute, and whoever comes free at last is collected like any other.
func (w *worker) unkillable(s stuck) {
	if w.life.unkillable {
		return
	}
	w.life.unkillable = true
	pm := w.postMortem()
	pm.Unkillable = s.String()
	w.pool.giveUpOn(w, s, pm)
}

// leave is the end of a worker that cannot be ended while the agent must: its keeper stays with it, the watchdog names it.
func (w *worker) leave(s stuck) {
	w.pool.agent.leaveBehind(s)
	w.crash.close()
	for _, c := range []interface{ close() }{w.link, w.keeperLink, w.out, w.process, w.keeper} {
		c.close() // who reads or waits for one of them wakes
	}
	w.drainEvents()
}
