package agent

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// memoryAge is how long a measurement of a worker's memory is good for: the kernel walks the whole address space for one, about
// 0.3 ms for a Python.
const memoryAge = 5 * time.Second

// processMemory is what a process has in memory, in bytes; both are 0 where the kernel does not say.
type processMemory struct {
	RSS int64 // resident, what is shared with others in full
	PSS int64 // the same, with each shared page divided by the number of those who share it: sums over workers are right
}

// memoryMeter measures workers for status, each at most once in memoryAge. The zero value is ready.
type memoryMeter struct {
	mu   sync.Mutex // guards the following; held while /proc is read
	last map[string]measured
}

type measured struct {
	processMemory
	pid      int
	starting bool // it grows: the next question measures anew
	at       time.Time
}

// fill sets the memory of every worker of a status. A worker that has died meanwhile keeps zeros, or what a process that took
// its pid has for the blink until the agent knows.
func (m *memoryMeter) fill(s *Status, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := map[string]measured{}
	for i := range s.Pools {
		for j := range s.Pools[i].Workers {
			w := &s.Pools[i].Workers[j]
			if w.PID == 0 {
				continue
			}
			known, ok := m.last[w.ID]
			if !ok || known.pid != w.PID || known.starting || now.Sub(known.at) >= memoryAge {
				known = measured{readMemory(w.PID), w.PID, w.State == string(stateStarting), now}
			}
			next[w.ID] = known
			w.RSSBytes, w.PSSBytes = known.RSS, known.PSS
		}
	}
	m.last = next
}

// readMemory reads /proc/PID/smaps_rollup (proc(5), Linux 4.14).
func readMemory(pid int) (m processMemory) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		return m
	}
	for line := range strings.Lines(string(text)) {
		label, rest, _ := strings.Cut(line, ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		switch {
		case err != nil:
		case label == "Rss":
			m.RSS = kib << 10
		case label == "Pss":
			m.PSS = kib << 10
		}
	}
	return m
}
