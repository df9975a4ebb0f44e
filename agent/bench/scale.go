package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/client"
)

const (
	manyGrace = time.Second
	// watchedFor is how long the cost of watching idle workers is measured: ten beats of each at the defaults.
	watchedFor = 20 * time.Second
	// loadedFor is how long the host is loaded, and looksEvery how often the last pong of every worker is read meanwhile: twice an interval, so
	// that each is another one.
	loadedFor  = time.Minute
	looksEvery = 4 * time.Second
	spinners   = 50 // per core
	killedAt   = 10 // every so manieth worker is killed
)

// cost is what watching so many workers costs.
type cost struct {
	workers         int
	agent, watchdog int     // private memory in KiB
	share, below    float64 // of one core: agent and watchdog; all workers with their keepers
}

// many is the life of a large pool: what watching it costs, at three sizes; then at the largest a call to each worker, a minute on a
// loaded host, a tenth of it killed at once, and the agent killed.
func (h *host) many() error {
	largest := h.times(1000)
	var costs []cost
	for _, workers := range []int{10, 100, largest} {
		if workers > largest {
			continue
		}
		began := time.Now()
		t, err := h.startTree(workers, manyGrace)
		if err != nil {
			return err
		}
		took := time.Since(began)
		costs = append(costs, t.watching())
		if workers < largest {
			t.stop()
			continue
		}
		h.table.add(row{What: fmt.Sprintf("%d workers ready", workers), Figure: short(took), Ratio: took.Seconds(), Unit: "s"})
		h.tellCosts(costs)
		for _, part := range []func(*tree) error{h.memoryOfMany, h.callsOfMany, h.pongsUnderLoad, h.deathsOfMany} {
			if err := part(t); err != nil {
				_ = t.cmd.Process.Kill() // the watchdog: keepers and agent end at once
				_ = t.cmd.Wait()
				return err
			}
		}
	}
	return nil
}

// watching lets the pool idle and takes the difference.
func (t *tree) watching() cost {
	guardian, self := t.status.Watchdog.PID, t.status.Agent.PID
	below := func() (sum time.Duration) {
		for _, w := range t.status.Pools[0].Workers {
			sum += processorTime(w.PID) + processorTime(w.KeeperPID)
		}
		return sum
	}
	supervisors := func() time.Duration { return processorTime(guardian) + processorTime(self) }
	settle(2 * time.Second) // what the start has left is done
	began, mine, theirs := time.Now(), supervisors(), below()
	settle(watchedFor)
	window := time.Since(began).Seconds()
	return cost{len(t.status.Pools[0].Workers), private(self), private(guardian), (supervisors() - mine).Seconds() / window, (below() - theirs).Seconds() / window}
}

// settle lets what is measured go on for a while.
func settle(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
}

func (h *host) tellCosts(costs []cost) {
	first, last := costs[0], costs[len(costs)-1]
	memory, shares, below := "", "", ""
	for _, c := range costs {
		memory += fmt.Sprintf("%d: %d + %d KiB; ", c.workers, c.agent, c.watchdog)
		shares += fmt.Sprintf("%d: %.2f %%; ", c.workers, 100*c.share)
		below += fmt.Sprintf("%d: %.2f %%; ", c.workers, 100*c.below)
	}
	slope := float64(last.agent+last.watchdog-first.agent-first.watchdog) / float64(last.workers-first.workers)
	h.table.add(row{What: "watching: private memory of agent + watchdog for each worker", Figure: memory, Ratio: slope, Bar: 256, Unit: "KiB"})
	h.table.add(row{What: fmt.Sprintf("watching: processor time of agent and watchdog, %d idle workers", last.workers), Figure: shares, Ratio: 100 * last.share, Bar: 5, Unit: "% of a core"})
	h.table.add(row{What: "the same of all workers and keepers", Figure: below, Ratio: 100 * last.below, Unit: "% of a core"})
}

// memoryOfMany is what each worker and its keeper have for themselves, and the watchdog's share in it all.
func (h *host) memoryOfMany(t *tree) error {
	workers, keepers := 0, 0
	all := t.status.Pools[0].Workers
	for _, w := range all {
		workers, keepers = workers+private(w.PID), keepers+private(w.KeeperPID)
	}
	each := func(sum int) float64 { return float64(sum) * 1024 / 1e6 / float64(len(all)) }
	h.table.add(row{What: fmt.Sprintf("private memory of a worker with its keeper, of %d", len(all)), Figure: fmt.Sprintf("%.2f + %.2f MB", each(workers), each(keepers)),
		Ratio: each(workers + keepers), Bar: 8, Unit: "MB"})
	pid := t.status.Watchdog.PID
	const window = 10 * time.Second
	before := switches(pid)
	settle(window)
	woke := switches(pid) - before
	anonymous, rss := memory(pid)
	h.table.add(row{What: fmt.Sprintf("watchdog, %d workers guarded: anonymous", len(all)), Figure: fmt.Sprintf("%d KiB", anonymous), Ratio: float64(anonymous), Bar: 1024, Unit: "KiB"})
	h.table.add(row{What: "watchdog: resident", Figure: fmt.Sprintf("%d KiB", rss), Ratio: float64(rss), Bar: 3072, Unit: "KiB"})
	h.table.add(row{What: "watchdog: context switches per beat", Figure: fmt.Sprintf("%d in %s at one beat a second", woke, window), Ratio: float64(woke) / window.Seconds(), Unit: "/s"})
	return nil
}

// callsOfMany makes as many calls as there are workers, one after the other: whoever has waited longest is next, so each has one.
func (h *host) callsOfMany(t *tree) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, t.socket)
	if err != nil {
		return err
	}
	defer c.Close()
	served, took := map[string]bool{}, samples{}
	for range t.status.Pools[0].Workers {
		start := time.Now()
		r, err := c.CallRaw(ctx, client.Request{Tool: "echo", Args: client.Value{JSON: []byte(`{"text":"x"}`)}})
		if err != nil {
			return err
		}
		took = append(took, time.Since(start))
		served[r.Worker] = true
	}
	if len(served) != len(t.status.Pools[0].Workers) {
		return fmt.Errorf("%d calls were served by %d workers", len(t.status.Pools[0].Workers), len(served))
	}
	h.table.add(row{What: fmt.Sprintf("first call to each of %d workers: p99", len(served)), Figure: took.String(), Ratio: took.p99().Seconds() * 1000, Unit: "ms"})
	return nil
}

// burn wants a processor until whoever has started it is gone.
func burn() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for n := 0; ; n++ {
	}
}

// pongsUnderLoad reads how long the last answered ping of every worker took, while so many processes as the bar says want every core.
// They are in the agent's session: where sched_autogroup is on, each session has a share of its own (sched(7)), and a hundred busy
// sessions would leave the agent a hundredth of two cores, whatever it does.
func (h *host) pongsUnderLoad(t *tree) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for range spinners * runtime.NumCPU() {
		c := exec.Command(self, "-spin")
		c.Env = []string{"GOMAXPROCS=1"}
		if _, err := c.StdinPipe(); err != nil {
			return err
		}
		if err := c.Start(); err != nil {
			return err
		}
		defer func() { _, _ = c.Process.Kill(), c.Wait() }()
	}
	before := idsOf(&t.status)
	var pongs samples
	late := 0
	for end := time.Now().Add(loadedFor); time.Now().Before(end); {
		settle(looksEvery)
		if err := t.look(); err != nil {
			return err
		}
		for _, w := range t.status.Pools[0].Workers {
			if w.Heartbeat.LastPongAgeS > looksEvery.Seconds() {
				late++ // its pong will be in a later look, with all the time that it took
				continue
			}
			pongs = append(pongs, time.Duration(w.Heartbeat.RTTMS*float64(time.Millisecond)))
		}
	}
	if after := idsOf(&t.status); !slices.Equal(before, after) {
		return fmt.Errorf("workers were killed under load: %d are not those of before", len(after)-len(common(before, after)))
	}
	h.table.add(row{What: fmt.Sprintf("pong of %d workers under %d runnable threads per core: p95", len(before), spinners), Figure: pongs.String(), Beside: fmt.Sprintf("%d not answered at a look, no worker killed", late),
		Ratio: pongs.at(0.95).Seconds() * 1000, Bar: 100, Unit: "ms"})
	h.table.add(row{What: "the same: p99.9", Figure: short(pongs.at(0.999)), Ratio: pongs.at(0.999).Seconds(), Bar: 1, Unit: "s"})
	return nil
}

func idsOf(s *agent.Status) (ids []string) {
	for _, w := range s.Pools[0].Workers {
		ids = append(ids, w.ID)
	}
	return ids
}

func common(a, b []string) (both []string) {
	for _, id := range a {
		if slices.Contains(b, id) {
			both = append(both, id)
		}
	}
	return both
}

// look asks for the status once.
func (t *tree) look() error {
	text, err := exec.Command(filepath.Join(t.h.bin, "pitboss"), "--socket", t.socket, "--json", "status").Output()
	if err != nil {
		return fmt.Errorf("cannot ask for the status: %w", err)
	}
	return json.Unmarshal(text, &t.status)
}

// deathsOfMany kills a tenth of the workers at once and waits until the pool is at its target again, then the agent.
func (h *host) deathsOfMany(t *tree) error {
	workers := len(t.status.Pools[0].Workers)
	var victims []int
	for i, w := range t.status.Pools[0].Workers {
		if i%killedAt == 0 {
			victims = append(victims, w.PID)
		}
	}
	began := time.Now()
	for _, pid := range victims {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
	}
	for {
		if err := t.awaitReady(workers); err != nil {
			return err
		}
		if !slices.ContainsFunc(t.status.Pools[0].Workers, func(w agent.WorkerStatus) bool { return slices.Contains(victims, w.PID) }) {
			break
		}
	}
	again := time.Since(began)
	h.table.add(row{What: fmt.Sprintf("%d of %d workers killed at once: all ready again", len(victims), workers), Figure: short(again), Beside: "first backoff 250 ms", Ratio: again.Seconds(), Unit: "s"})
	took, err := t.kill(30 * time.Second)
	if err != nil {
		return err
	}
	h.table.add(row{What: fmt.Sprintf("agent SIGKILL to empty, %d idle workers, grace 1 s", workers), Figure: short(took), Ratio: took.Seconds(), Bar: (manyGrace + 2*time.Second).Seconds(), Unit: "s"})
	return nil
}
