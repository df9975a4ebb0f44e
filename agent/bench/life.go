package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// start measures from the exec of `pitboss run` to the moment when 100 workers are ready and its command runs.
func (h *host) start() error {
	var took samples
	for range h.times(5) {
		dir, err := os.MkdirTemp(h.dir, "s")
		if err != nil {
			return err
		}
		cmd := exec.Command(filepath.Join(h.bin, "pitboss"), "run", "--python", h.python, "--workers", "100", h.peer("tools.py"), "--", "echo", "ready")
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		begin := time.Now()
		if err := cmd.Start(); err != nil {
			return err
		}
		if n, err := out.Read(make([]byte, 5)); n != 5 || err != nil {
			return fmt.Errorf("cannot start 100 workers: %v", err)
		}
		took = append(took, time.Since(begin))
		if err := cmd.Wait(); err != nil {
			return err
		}
	}
	h.table.add(row{What: "100 workers ready (fork, stdlib adapter)", Figure: took.String(), Ratio: took.p50().Seconds(), Bar: 1, Unit: "s"})
	return nil
}

// death measures from the SIGKILL of the agent to the end of the last process, and an idle worker's end after EOF alone: its
// keeper is stopped, so that no TERM comes.
func (h *host) death() error {
	const workers, grace = 50, 300 * time.Millisecond
	var idle, stubborn, alone samples
	for range h.times(20) {
		t, err := h.startTree(workers, grace)
		if err != nil {
			return err
		}
		took, err := t.kill(10 * time.Second)
		if err != nil {
			return err
		}
		idle = append(idle, took)
	}
	for range h.times(5) {
		t, err := h.startTree(workers, grace, "BENCH_IGNORE_TERM=1")
		if err != nil {
			return err
		}
		took, err := t.kill(10 * time.Second)
		if err != nil {
			return err
		}
		stubborn = append(stubborn, took)
	}
	for range h.times(5) {
		deaths, err := h.eofAlone(workers)
		if err != nil {
			return err
		}
		alone = append(alone, deaths...)
	}
	h.table.add(row{What: "agent SIGKILL to empty, 50 idle workers", Figure: idle.String(), Ratio: idle.p99().Seconds() * 1000, Bar: 100, Unit: "ms"})
	h.table.add(row{What: "the same, 50 that ignore TERM, grace 300 ms", Figure: stubborn.String(), Beside: "beyond the grace", Ratio: (stubborn.p99() - grace).Seconds() * 1000, Bar: 150, Unit: "ms"})
	h.table.add(row{What: "idle worker gone after EOF alone", Figure: alone.String(), Ratio: alone.p99().Seconds() * 1000, Bar: 100, Unit: "ms"})
	return nil
}

func (h *host) eofAlone(workers int) (samples, error) {
	t, err := h.startTree(workers, 3*time.Second)
	if err != nil {
		return nil, err
	}
	var pids, keepers []int
	for _, w := range t.status.Pools[0].Workers {
		pids, keepers = append(pids, w.PID), append(keepers, w.KeeperPID)
		if err := syscall.Kill(w.KeeperPID, syscall.SIGSTOP); err != nil {
			return nil, err
		}
	}
	deaths, err := watchDeaths(pids, func() error { return syscall.Kill(t.status.Agent.PID, syscall.SIGKILL) }, 3*time.Second)
	for _, pid := range keepers {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	_ = t.cmd.Wait()
	return deaths, err
}
