package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
)

// unary compares a 64-byte echo by a gRPC client through the agent with the same client on a grpcio server in Python and with
// ProcessPoolExecutor, in turn, and the throughput of two workers.
func (h *host) unary() error {
	t, err := h.startTree(2, time.Second)
	if err != nil {
		return err
	}
	defer t.stop()
	socket := filepath.Join(h.dir, "echo.sock")
	server := exec.Command(h.python, h.peer("grpc_echo.py"), socket)
	stdin, err := server.StdinPipe()
	if err != nil {
		return err
	}
	out, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer func() { _ = stdin.Close(); _ = server.Wait() }()
	if n, err := out.Read(make([]byte, 3)); n == 0 || err != nil {
		return fmt.Errorf("cannot start the grpcio server: %v; `make bench` installs grpcio", err)
	}
	var ours, grpcio, executor samples
	var rate, executorRate []float64
	for range 5 {
		for _, side := range []struct {
			socket string
			into   *samples
		}{{t.socket, &ours}, {socket, &grpcio}} {
			s, err := latencies(side.socket, h.times(1000))
			if err != nil {
				return err
			}
			*side.into = append(*side.into, s...)
		}
		text, err := exec.Command(h.python, h.peer("executor.py"), "latency", strconv.Itoa(h.times(1000))).Output()
		if err != nil {
			return err
		}
		executor = append(executor, nanoseconds(text)...)
		r, err := throughput(t.socket, h.times(5000))
		if err != nil {
			return err
		}
		rate = append(rate, r)
		if text, err = exec.Command(h.python, h.peer("executor.py"), "throughput", strconv.Itoa(h.times(5000))).Output(); err != nil {
			return err
		}
		r, err = strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
		if err != nil {
			return err
		}
		executorRate = append(executorRate, r)
	}
	h.table.add(row{What: "grpc client through the agent, unary", Figure: ours.String(), Beside: "grpcio echo server " + grpcio.String(),
		Ratio: ratio(ours.p50(), grpcio.p50()), Bar: 1, Unit: "x"})
	h.table.add(row{What: "the same against ProcessPoolExecutor(1)", Figure: ours.String(), Beside: "executor " + executor.String(),
		Ratio: ratio(ours.p50(), executor.p50()), Unit: "x"})
	h.table.add(row{What: "grpc client, 2 workers, 16 in flight", Figure: fmt.Sprintf("%.0f calls/s", median(rate)),
		Beside: fmt.Sprintf("ProcessPoolExecutor(2) %.0f calls/s", median(executorRate)), Ratio: median(rate) / median(executorRate), Unit: "x"})
	return nil
}

// latencies calls one after the other on one connection.
func latencies(socket string, n int) (samples, error) {
	ctx := context.Background()
	c, err := client.Dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var s samples
	for i := range n + 100 {
		start := time.Now()
		if _, err := c.CallRaw(ctx, client.Request{Tool: "echo", Args: client.Value{JSON: []byte(echoArgs)}}); err != nil {
			return nil, err
		}
		if i >= 100 {
			s = append(s, time.Since(start))
		}
	}
	return s, nil
}

// throughput keeps 16 calls in flight and returns calls per second.
func throughput(socket string, n int) (float64, error) {
	ctx := context.Background()
	c, err := client.Dial(ctx, socket)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	var all sync.WaitGroup
	failures := make(chan error, 16)
	start := time.Now()
	for range 16 {
		all.Go(func() {
			for range n / 16 {
				if _, err := c.CallRaw(ctx, client.Request{Tool: "echo", Args: client.Value{JSON: []byte(echoArgs)}}); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	all.Wait()
	took := time.Since(start)
	select {
	case err := <-failures:
		return 0, err
	default:
		return float64(n/16*16) / took.Seconds(), nil
	}
}
