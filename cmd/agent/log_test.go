package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
	"golang.org/x/sys/unix"
)

const (
	floodLines = 400 // of 6 000 bytes each: more than the agent keeps for a slow reader
	calmCalls  = 200
)

const loudTools = `import pitboss
@pitboss.tool
def loud(n: int) -> int:
    for i in range(n):
        print(f"flood-{i}-" + "x" * 6000, flush=True)
    return n
@pitboss.tool
def say() -> int:
    print("said", flush=True)
    return 1
`

// fullPipe is a pipe that takes no more. The write end is for the agent, and blocks whoever writes to it.
func fullPipe(t *testing.T) (reader, writer *os.File) {
	t.Helper()
	var fds [2]int
	must(t, unix.Pipe2(fds[:], unix.O_CLOEXEC))
	reader, writer = os.NewFile(uintptr(fds[0]), "log reader"), os.NewFile(uintptr(fds[1]), "log")
	t.Cleanup(func() { _ = reader.Close(); _ = writer.Close() })
	again, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(fds[1]), os.O_WRONLY|unix.O_NONBLOCK, 0)
	must(t, err)
	defer again.Close()
	must(t, again.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
	for err == nil {
		_, err = again.Write([]byte(strings.Repeat("#", 4095) + "\n"))
	}
	must(t, again.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
	for err = nil; err == nil; {
		_, err = again.Write([]byte("#"))
	}
	return reader, writer
}

// medianCall is the median time of calls that each write a line.
func medianCall(t *testing.T, c *client.Client) time.Duration {
	t.Helper()
	times := make([]time.Duration, calmCalls)
	for i := range times {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		begin := time.Now()
		_, err := client.Call[int](ctx, c, "say", struct{}{})
		times[i] = time.Since(begin)
		cancel()
		must(t, err)
	}
	slices.Sort(times)
	return times[calmCalls/2]
}

// TestAnAgentWhoseLogNobodyReadsServes: its standard error is a full pipe from the start. Calls, commands and the stop go on;
// what is lost is counted, and told once somebody reads. A program that writes there directly is stuck meanwhile.
func TestAnAgentWhoseLogNobodyReadsServes(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("tools.py"), []byte(loudTools), 0o644))
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(onePool), 0o644))
	reader, writer := fullPipe(t)
	control := h.command("sh", "-c", "echo control >&2")
	control.Stderr = writer
	stuck := h.start(control)
	agent := h.command("pitboss", "agent", "--config", "pitboss.yaml")
	agent.Stderr = writer
	s := h.start(agent)
	s.awaitReady()
	c, err := client.Dial(t.Context(), h.path("pitboss/agent.sock"))
	must(t, err)
	defer c.Close()
	if n, err := client.Call[int](t.Context(), c, "loud", map[string]int{"n": floodLines}); err != nil || n != floodLines {
		t.Fatal(n, err)
	}
	blocked := medianCall(t, c)
	select {
	case <-stuck.done:
		t.Fatal("a direct writer was not stuck: the pipe is not full")
	default:
	}

	var text strings.Builder
	var floods atomic.Int64
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewReader(reader)
		for {
			line, err := lines.ReadString('\n')
			text.WriteString(line)
			if strings.Contains(line, "flood-") {
				floods.Add(1)
			}
			if err != nil {
				return
			}
		}
	}()
	lost := 0
	h.await("told what was lost", func() bool {
		lost = 0
		for _, e := range h.events() {
			var fields struct{ Lines int }
			if e.Name == "log.dropped" && json.Unmarshal(e.Fields, &fields) == nil {
				lost += fields.Lines
			}
		}
		return lost > 0
	})
	if code := stuck.exit(); code != 0 {
		t.Errorf("the control ended with %d", code)
	}
	free := medianCall(t, c)
	t.Logf("median call %s with a log that nobody reads, %s with a reader; %d lines lost, %d of the flood's %d read", blocked, free, lost, floods.Load(), floodLines)
	if blocked > 3*free+5*time.Millisecond {
		t.Errorf("median call %s with a log that nobody reads, %s with a reader", blocked, free)
	}
	h.pitboss("stop").want(t, 0)
	s.exit()
	_ = writer.Close()
	<-read
	if n := int(floods.Load()); n == floodLines || n+lost < floodLines {
		t.Errorf("%d lines of %d were read and %d counted as lost", n, floodLines, lost)
	}
	for _, want := range []string{`"event":"log.dropped"`, `"event":"agent.started"`, `"event":"agent.stopped"`, "control\n"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the log has no %s", want)
		}
	}
}

// TestAnAgentWhoseLogNobodyReadsStops: neither the signal's own line nor the last lines of the log hold up the end.
func TestAnAgentWhoseLogNobodyReadsStops(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(onePool), 0o644))
	_, writer := fullPipe(t)
	c := h.command("pitboss", "agent", "--config", "pitboss.yaml")
	c.Stderr = writer
	s := h.start(c)
	s.awaitReady()
	call := h.start(h.command("pitboss", "call", "nap", "seconds=1", "file="+h.path("begun")))
	h.awaitFile("begun")
	st, ok := h.status()
	if !ok {
		t.Fatal("no status")
	}
	must(t, syscall.Kill(st.Agent.PID, syscall.SIGQUIT)) // stacks of every goroutine: more lines for nobody
	must(t, s.cmd.Process.Signal(syscall.SIGTERM))
	if code := call.exit(); code != 0 {
		t.Errorf("the call ended with %d: %s", code, call.log())
	}
	if code := s.exit(); code != 0 {
		t.Errorf("the agent ended with %d", code)
	}
}

// TestAReaderThatIsTooSlowIsTold: a follower whose output nobody reads misses lines; the gap is in its place, and counted.
func TestAReaderThatIsTooSlowIsTold(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("tools.py"), []byte(loudTools), 0o644))
	s := h.serve(onePool)
	const all = 1900 // below what one worker may write at once without a line being dropped, and 11 MB
	readers := map[string]*os.File{}
	followers := map[string]*service{}
	for name, args := range map[string][]string{"text": {"logs", "-f"}, "json": {"logs", "-f", "--json"}} {
		reader, writer, err := os.Pipe()
		must(t, err)
		t.Cleanup(func() { _ = reader.Close() })
		c := h.command("pitboss", args...)
		c.Stdout = writer
		readers[name], followers[name] = reader, h.start(c)
		_ = writer.Close()
	}
	marks := map[string]*bufio.Reader{}
	for name, reader := range readers { // it follows once a line comes
		marks[name] = bufio.NewReader(reader)
		line := make(chan string, 1)
		go func() { text, _ := marks[name].ReadString('\n'); line <- text }()
		h.await("followed", func() bool {
			h.pitboss("call", "say").want(t, 0)
			return len(line) == 1
		})
		<-line
	}
	h.pitboss("call", "loud", "n="+strconv.Itoa(all)).want(t, 0)
	h.await("read by the agent", func() bool { // the pipe is read beside the call's answer
		return strings.Contains(h.pitboss("logs").stdout, fmt.Sprintf("flood-%d-", all-1))
	})
	for name, reader := range marks {
		var got, lost atomic.Int64
		end := make(chan struct{})
		go func() {
			defer close(end)
			for {
				line, err := reader.ReadString('\n')
				if err != nil {
					return
				}
				var gap struct{ Lost int64 }
				switch {
				case strings.Contains(line, "flood-"):
					got.Add(1)
				case name == "json" && json.Unmarshal([]byte(line), &gap) == nil && line == fmt.Sprintf("{\"lost\":%d}\n", gap.Lost):
					lost.Add(gap.Lost)
				case name == "text" && strings.HasSuffix(line, "lost: this reader is too slow\n"):
					if _, err := fmt.Sscanf(line, "… %d line", &gap.Lost); err != nil {
						t.Errorf("%q: %v", line, err)
					}
					lost.Add(gap.Lost)
				}
			}
		}()
		h.await("told of the gap: "+name, func() bool { // it is told where the next line comes
			h.pitboss("call", "say").want(t, 0)
			return lost.Load() > 0
		})
		must(t, followers[name].cmd.Process.Signal(syscall.SIGINT))
		followers[name].exit()
		<-end
		t.Logf("%s: %d lines read, %d lost", name, got.Load(), lost.Load())
		if got.Load() == all || got.Load()+lost.Load() < all {
			t.Errorf("%s: %d lines read and %d lost of %d", name, got.Load(), lost.Load(), all)
		}
	}
	h.pitboss("stop").want(t, 0)
	s.exit()
}
