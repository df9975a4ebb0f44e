package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"golang.org/x/sys/unix"
)

const (
	text64     = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	echoArgs   = `{"text":"` + text64 + `"}`
	echoResult = `"` + text64 + `"`
	// warmUp is how many calls are not counted: a cold interpreter and a cold scheduler are no property of the link.
	warmUp = 3000
)

// link compares a call on a worker's data socket, dispatch included and gRPC left out, with one round trip in C between two
// processes pinned in the same way: both on one core, and on two. The two are measured in turn.
func (h *host) link() error {
	if out, err := exec.Command("cc", "-O2", "-o", h.peer("roundtrip"), h.peer("roundtrip.c")).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot compile the C round trip: %w: %s; install a C compiler (gcc)", err, out)
	}
	for _, c := range []struct{ name, core string }{{"same core", "0"}, {"two cores", "1"}} {
		var ours, raw samples
		for range 3 {
			n := h.times(20000)
			out, err := exec.Command(h.peer("roundtrip"), "0", c.core, strconv.Itoa(n)).Output()
			if err != nil {
				return fmt.Errorf("cannot run the C round trip: %w", err)
			}
			raw = append(raw, nanoseconds(out)...)
			self, err := os.Executable()
			if err != nil {
				return err
			}
			cmd := exec.Command("taskset", "-c", "0", self, "-link", c.core, "-python", h.python, "-scale", fmt.Sprint(h.scale))
			cmd.Stderr = os.Stderr
			if out, err = cmd.Output(); err != nil {
				return fmt.Errorf("cannot measure the worker link: %w", err)
			}
			ours = append(ours, nanoseconds(out)...)
		}
		h.table.add(row{What: "worker link echo, " + c.name, Figure: ours.String(), Beside: "C socketpair " + raw.String(),
			Ratio: ratio(ours.p50(), raw.p50()), Bar: 3, Unit: "x"})
	}
	return nil
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func nanoseconds(out []byte) (s samples) {
	for line := range bytes.Lines(out) {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(line)), 10, 64); err == nil {
			s = append(s, time.Duration(n))
		}
	}
	return s
}

// measureLink is the child that link starts, pinned to core 0: an agent in this process and a real worker on the given core.
func (h *host) measureLink(core string) error {
	a, end, err := h.inProcess(1)
	if err != nil {
		return err
	}
	defer end()
	if err := pin(a.Status().Pools[0].Workers[0].PID, core); err != nil {
		return err
	}
	n := h.times(20000)
	var out bytes.Buffer
	for i := range n + warmUp {
		req := &agent.Request{Tool: "echo", Args: agent.Value{JSON: []byte(echoArgs)}}
		start := time.Now()
		r, err := a.Call(context.Background(), req)
		took := time.Since(start)
		if err != nil || string(r.JSON) != echoResult {
			return fmt.Errorf("cannot call echo: %v", err)
		}
		if i >= warmUp {
			fmt.Fprintln(&out, took.Nanoseconds())
		}
	}
	_, err = os.Stdout.Write(out.Bytes())
	return err
}

// pin moves every thread of a process to one core.
func pin(pid int, core string) error {
	n, err := strconv.Atoi(core)
	if err != nil {
		return err
	}
	var set unix.CPUSet
	set.Set(n)
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil {
			return fmt.Errorf("cannot pin thread %d to core %d: %w", tid, n, err)
		}
	}
	return nil
}
