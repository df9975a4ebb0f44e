package chaos

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
	"golang.org/x/sys/unix"
)

const (
	thousand       = 1000
	thousandGrace  = time.Second
	thousandBeats  = time.Minute // for which they only answer pings
	thousandKilled = 100
	// thousandPatience is for a start of all of them on a loaded host.
	thousandPatience = 3 * time.Minute
	// What they need: 8 MB each are the bar, and a worker and its keeper are two processes.
	thousandMemory = 8 << 30
	thousandPIDs   = 2*thousand + 500
	thousandFiles  = 10*thousand + 200
)

// idle is a worker with nothing to do but a call.
const idle = `
import os
import pitboss

@pitboss.tool
def who() -> int:
    return os.getpid()
`

// thousandScenarios are about the largest pool that there may be.
func thousandScenarios() []Scenario {
	return []Scenario{{
		Name:   "thousand-workers",
		What:   fmt.Sprintf("%d workers: a call to each, %s of heartbeats, %d of them SIGKILLed at once, then the agent", thousand, thousandBeats, thousandKilled),
		Expect: fmt.Sprintf("each is called, nobody else is replaced, the pool is at its target again, and the tree is empty within the grace of %s + 2 s", thousandGrace),
		Long:   1, Cannot: roomForAThousand, Run: aThousand,
	}}
}

// roomForAThousand names what this host has too little of.
func roomForAThousand(*Host) string {
	if kib := numberAfter("/proc/meminfo", "MemAvailable:"); kib<<10 < thousandMemory {
		return fmt.Sprintf("needs %d GiB of memory, %d MiB are available", thousandMemory>>30, kib>>10)
	}
	var files, processes unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) != nil || files.Max < thousandFiles {
		return fmt.Sprintf("needs %d descriptors (ulimit -Hn), %d are allowed", thousandFiles, files.Max)
	}
	if unix.Getrlimit(unix.RLIMIT_NPROC, &processes) != nil || processes.Cur < thousandPIDs {
		return fmt.Sprintf("needs %d processes (ulimit -u), %d are allowed", thousandPIDs, processes.Cur)
	}
	if most := numberAfter("/proc/sys/kernel/pid_max", ""); most < 2*thousandPIDs {
		return fmt.Sprintf("needs kernel.pid_max of %d, it is %d", 2*thousandPIDs, most)
	}
	return ""
}

// numberAfter is the first number behind a label in a file of /proc, 0 when there is none.
func numberAfter(file, label string) int {
	text, _ := os.ReadFile(file)
	_, rest, _ := strings.Cut(string(text), label)
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(fields[0])
	return n
}

// crowd is what the scenario reads of a status.
type crowd struct {
	Pools []struct {
		Ready   int
		Workers []struct {
			ID, State string
			PID       int
			Keeper    int `json:"keeper_pid"`
			Heartbeat struct {
				Verdict      string
				RTTMS        float64 `json:"rtt_ms"`
				LastPongAgeS float64 `json:"last_pong_age_s"`
			}
		}
	}
}

func aThousand(r *Round) {
	began := time.Now()
	a := r.Start(Options{Files: map[string]string{"idle.py": idle},
		Config: fmt.Sprintf("pools:\n  - {name: default, adapter: idle.py, workers: %d, timeouts: {kill: %s}}\nlog: {level: warn}\n", thousand, thousandGrace)})
	before := a.crowd(func(c *crowd) bool { return len(c.Pools) == 1 && c.Pools[0].Ready == thousand })
	r.Note("ready after %s", time.Since(began).Round(time.Millisecond))
	a.noteTier()
	a.callEach(before)

	end := time.NewTimer(thousandBeats)
	select {
	case <-end.C:
	case <-r.ctx.Done():
		r.Fatalf("interrupted")
	}
	now := map[string]bool{}
	slowest := 0.0
	for _, w := range a.crowd(func(*crowd) bool { return true }).Pools[0].Workers {
		now[w.ID] = true
		slowest = max(slowest, w.Heartbeat.RTTMS)
		if w.Heartbeat.LastPongAgeS > 10 || w.Heartbeat.Verdict != "healthy" {
			r.Errorf("worker %s: %+v", w.ID, w.Heartbeat)
		}
	}
	r.Note("slowest of the last pongs %.1f ms", slowest)
	var killed, others []string
	for i, w := range before.Pools[0].Workers {
		if !now[w.ID] {
			r.FalseKill("worker %s is gone after a minute of heartbeats", w.ID)
		}
		if i%(thousand/thousandKilled) != 0 {
			others = append(others, w.ID)
			continue
		}
		killed = append(killed, w.ID)
		r.pin(w.PID).Kill(unix.SIGKILL)
	}
	began = time.Now()
	after := map[string]bool{}
	a.crowd(func(c *crowd) bool {
		clear(after)
		for _, w := range c.Pools[0].Workers {
			after[w.ID] = true
		}
		return c.Pools[0].Ready == thousand && !anyOf(killed, after)
	})
	r.Note("%d killed, all ready again after %s", len(killed), time.Since(began).Round(time.Millisecond))
	for _, id := range others {
		if !after[id] {
			r.FalseKill("worker %s, which nobody had killed", id)
		}
	}
	a.Process.Kill(unix.SIGKILL)
	r.Empty(thousandGrace + 2*time.Second)
}

func anyOf(ids []string, set map[string]bool) bool {
	for _, id := range ids {
		if set[id] {
			return true
		}
	}
	return false
}

// crowd waits for a status.
func (a *Agent) crowd(enough func(*crowd) bool) *crowd {
	var c crowd
	a.round.within(thousandPatience, "workers", func() bool {
		c = crowd{}
		a.Status(&c)
		return enough(&c)
	})
	return &c
}

// callEach makes as many calls as there are workers, one after the other: whoever has waited longest is next.
func (a *Agent) callEach(c *crowd) {
	served := map[string]bool{}
	for range c.Pools[0].Workers {
		result, err := a.Client().CallRaw(a.round.ctx, client.Request{Tool: "who"})
		a.round.Must(err)
		served[result.Worker] = true
	}
	if len(served) != len(c.Pools[0].Workers) {
		a.round.Errorf("%d calls were served by %d workers", len(c.Pools[0].Workers), len(served))
	}
}
