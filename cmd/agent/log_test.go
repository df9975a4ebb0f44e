package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const talkative = `
import os, pitboss

@pitboss.tool
def talk(lines: int, size: int) -> int:
    for i in range(lines):
        print("talk", i, "x" * size, flush=True)
    return lines

@pitboss.tool
def fail(lines: int, size: int):
    talk(lines, size)
    raise ValueError("told to nobody")

@pitboss.tool
def add(a: int, b: int) -> int:
    return a + b
`

// TestALogThatNobodyReadsBlocksNothing: calls go on beside a full pipe on standard error; what was lost is counted, and told once
// somebody reads again.
func TestALogThatNobodyReadsBlocksNothing(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("tools.py"), []byte(talkative), 0o644))
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte("pools: [{name: default, adapter: tools.py, workers: 1}]\n"), 0o644))
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	c := h.command("pitboss", "agent", "--config", "pitboss.yaml")
	c.Stderr = w
	s := h.start(c)
	s.awaitReady()
	for range 2 {
		h.pitboss("call", "talk", "lines=600", "size=2000").want(t, 0)
	}
	// The control: a writer of the ordinary kind waits for a reader.
	blocked := make(chan error, 1)
	go func() { _, err := w.Write(make([]byte, 1<<16)); blocked <- err }()
	for range 50 {
		if e := h.pitboss("call", "add", "a=1", "b=2"); e.stdout != "3\n" {
			t.Fatalf("%+v", e)
		}
	}
	select {
	case err := <-blocked:
		t.Fatalf("the pipe is not full: %v", err)
	default:
	}
	_ = w.Close() // ours; the agent has its own
	var log bytes.Buffer
	read := make(chan struct{})
	go func() { defer close(read); _, _ = log.ReadFrom(r) }()
	must(t, <-blocked)
	var dropped map[string]any
	h.await("told of the losses", func() bool {
		for _, e := range h.events() {
			if e.Name == "log.dropped" {
				must(t, json.Unmarshal(e.Fields, &dropped))
			}
		}
		return dropped != nil
	})
	must(t, s.cmd.Process.Signal(syscall.SIGTERM))
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	<-read
	text := log.String()
	if n, ok := dropped["lines"].(float64); !ok || n < 100 {
		t.Errorf("%v", dropped)
	}
	for _, want := range []string{`"event":"agent.started"`, `"event":"log.dropped"`, `"event":"agent.stopped"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the log has no %s", want)
		}
	}
}

// TestAnAgentEndsThoughNobodyReadsItsLog, with its own exit code.
func TestAnAgentEndsThoughNobodyReadsItsLog(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("tools.py"), []byte(talkative), 0o644))
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	for tool, want := range map[string]int{"talk": 0, "fail": 1} {
		c := h.command("pitboss", "run", "tools.py", tool, "lines=900", "size=2000")
		c.Stderr = w
		s := h.start(c)
		if code := s.exit(); code != want {
			t.Errorf("%s: exit code %d", tool, code)
		}
	}
}

// journalOf listens where the journal does, in a mount namespace of its own, and returns the command's entries as they come.
func (h *host) journalOf(args ...string) (*exec.Cmd, <-chan map[string]string) {
	h.t.Helper()
	needRoot(h.t)
	must(h.t, os.Mkdir(h.path("journal"), 0o755))
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: h.path("journal/socket"), Net: "unixgram"})
	must(h.t, err)
	h.t.Cleanup(func() { _ = conn.Close() })
	entries := make(chan map[string]string, 10000)
	go func() {
		buffer := make([]byte, 1<<20)
		for {
			n, _, err := conn.ReadFromUnix(buffer)
			if err != nil {
				close(entries)
				return
			}
			entries <- journalEntry(buffer[:n])
		}
	}()
	script := fmt.Sprintf("mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/journal && mount --bind %q /run/systemd/journal && exec \"$@\"", h.path("journal"))
	must(h.t, os.MkdirAll("/run/systemd", 0o755))
	return h.command("unshare", append([]string{"-m", "sh", "-c", script, "sh"}, args...)...), entries
}

// journalEntry reads the native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
func journalEntry(b []byte) map[string]string {
	entry := map[string]string{}
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		name, value, inline := bytes.Cut(line, []byte("="))
		if inline {
			entry[string(name)], b = string(value), rest
			continue
		}
		size := binary.LittleEndian.Uint64(rest)
		entry[string(line)], b = string(rest[8:8+size]), rest[8+size+1:]
	}
	return entry
}

// TestTheJournalGetsFields, by format: journald, and by itself where standard error leads to the journal.
func TestTheJournalGetsFields(t *testing.T) {
	for name, format := range map[string]string{"asked for": "journald", "found out": "auto"} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			must(t, os.WriteFile(h.path("tools.py"), []byte(talkative), 0o644))
			must(t, os.WriteFile(h.path("pitboss.yaml"), []byte("log: {format: "+format+"}\npools: [{name: default, adapter: tools.py, workers: 1}]\n"), 0o644))
			c, entries := h.journalOf("pitboss", "agent", "--config", "pitboss.yaml")
			stderr, err := os.Create(h.path("stderr"))
			must(t, err)
			defer stderr.Close()
			c.Stderr = stderr
			if format == "auto" {
				info, err := stderr.Stat()
				must(t, err)
				st := info.Sys().(*syscall.Stat_t)
				c.Env = append(c.Env, fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino))
			}
			s := h.start(c)
			s.awaitReady()
			h.pitboss("call", "talk", "lines=1", "size=3").want(t, 0)
			expect := func(fields map[string]string) map[string]string {
				t.Helper()
				deadline := time.After(patience)
				for {
					select {
					case e := <-entries:
						matches := true
						for k, v := range fields {
							matches = matches && strings.HasPrefix(e[k], v)
						}
						if matches {
							return e
						}
					case <-deadline:
						t.Fatalf("no entry with %v; standard error: %s", fields, read(t, stderr.Name()))
					}
				}
			}
			e := expect(map[string]string{"PITBOSS_EVENT": "worker.ready", "PITBOSS_POOL": "default", "PRIORITY": "6", "SYSLOG_IDENTIFIER": "pitboss"})
			if e["PITBOSS_WORKER"] == "" || !strings.HasPrefix(e["MESSAGE"], "worker ready ") || strings.Contains(e["MESSAGE"], "time=") {
				t.Errorf("%v", e)
			}
			e = expect(map[string]string{"MESSAGE": "talk 0 xxx"})
			if e["PITBOSS_WORKER"] == "" || e["PITBOSS_CALL"] == "" || e["PITBOSS_CALL"] == "0" || e["PITBOSS_POOL"] != "default" {
				t.Errorf("%v", e)
			}
			must(t, s.cmd.Process.Signal(syscall.SIGTERM))
			expect(map[string]string{"PITBOSS_EVENT": "agent.stopped"})
			if code := s.exit(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if text := read(t, stderr.Name()); strings.Contains(text, "worker.ready") {
				t.Errorf("it is on standard error too: %s", text)
			}
		})
	}
}

// TestWithoutAJournalThereArePriorities in front of the lines, which the journal takes from standard error.
func TestWithoutAJournalThereArePriorities(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte("log: {format: journald}\npools: [{name: default, adapter: tools.py, workers: 1}]\n"), 0o644))
	c, _ := h.journalOf("pitboss", "agent", "--config", "pitboss.yaml")
	must(t, os.Remove(filepath.Join(h.dir, "journal/socket")))
	s := h.start(c)
	s.awaitReady()
	h.await("lines with their priority", func() bool { return strings.Contains(s.log(), "<6>worker ready event=worker.ready") })
}
