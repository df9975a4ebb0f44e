package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// runRecordFile is what one run has started, in the runtime directory; the next run sweeps by it.
	runRecordFile = "run.jsonl"
	// maxRunRecord is the largest such file that is read, in bytes: a million workers.
	maxRunRecord = 128 << 20
	// maxRecordLine is the longest line in it, in bytes.
	maxRecordLine = 1 << 10
	runSchema     = 1
	// bootIDFile tells this boot from others.
	bootIDFile = "/proc/sys/kernel/random/boot_id"
)

// runHeader is the first line: which run this is, and where its pids mean something.
type runHeader struct {
	Schema  int    `json:"schema"`
	RunID   string `json:"run_id"`
	BootID  string `json:"boot_id"` // of bootIDFile; empty where there is none
	PIDNS   uint64 `json:"pid_ns"`  // inode of /proc/self/ns/pid
	Agent   int    `json:"agent"`
	GraceMS int64  `json:"grace_ms"` // the longest time that its keepers leave between TERM and KILL
}

// runEntry is a further line: a process that is about to run.
type runEntry struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, field 22 of /proc/PID/stat: with the pid it names one process of a boot
	What  string `json:"what"`  // "keeper of W", "worker W"; a launcher is found by its environment
}

// runRecord is the present run's file. A line is written before its process may run, without fsync: no process outlives what
// would lose it. A nil *runRecord keeps no record.
type runRecord struct {
	dir    string
	header runHeader

	mu    sync.Mutex // guards the following
	file  *os.File
	lines int
	live  map[*pidfd]runEntry // not by pid: a number comes back before its first bearer is removed
}

// recordSlack is how many lines of processes that are gone the file may hold before it is written anew: a pool that loses a
// worker with each call must not fill a memory-backed directory.
const recordSlack = 4096

func newRunHeader(runID string, grace time.Duration) (runHeader, error) {
	boot, err := os.ReadFile(bootIDFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a proc of subset=pid has none
		return runHeader{}, fmt.Errorf("cannot tell this boot from others: %w", err)
	}
	var ns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &ns); err != nil {
		return runHeader{}, fmt.Errorf("cannot tell this pid namespace from others: %w", err)
	}
	return runHeader{Schema: runSchema, RunID: runID, BootID: strings.TrimSpace(string(boot)), PIDNS: ns.Ino, Agent: os.Getpid(), GraceMS: grace.Milliseconds()}, nil
}

// startRunRecord replaces what an earlier run has left.
func startRunRecord(dir string, header runHeader, entries ...runEntry) (*runRecord, error) {
	name := filepath.Join(dir, runRecordFile)
	file, err := os.CreateTemp(dir, runRecordFile+".")
	if err != nil {
		return nil, fmt.Errorf("cannot record this run: %w", err)
	}
	var text bytes.Buffer
	lines := json.NewEncoder(&text)
	err = lines.Encode(header)
	for _, entry := range entries {
		err = errors.Join(err, lines.Encode(entry))
	}
	if err == nil {
		_, err = file.Write(text.Bytes())
	}
	if err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		_, _ = os.Remove(file.Name()), file.Close()
		return nil, fmt.Errorf("cannot record this run in %q: %w", name, err)
	}
	return &runRecord{dir: dir, header: header, file: file, live: map[*pidfd]runEntry{}}, nil
}

// remove forgets a process that is proven gone.
func (r *runRecord) remove(p *pidfd) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, p)
}

// lengthen notes a longer grace before any keeper has it: the next run must not kill what a keeper still lets end.
func (r *runRecord) lengthen(grace time.Duration) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.header.GraceMS
	if grace.Milliseconds() <= was {
		return nil
	}
	r.header.GraceMS = grace.Milliseconds()
	if err := r.compact(); err != nil {
		r.header.GraceMS = was
		return err
	}
	return nil
}

// compact writes the file anew with the living only; mu is held. The old file holds until the new one is whole.
func (r *runRecord) compact() error {
	next, err := startRunRecord(r.dir, r.header, slices.Collect(maps.Values(r.live))...)
	if err != nil {
		return err
	}
	_ = r.file.Close()
	r.file, r.lines = next.file, len(r.live)
	return nil
}

// add records a process that we hold a pidfd of.
func (r *runRecord) add(what string, p *pidfd) error {
	if r == nil {
		return nil
	}
	start, ok := startTime(p.pid)
	if !ok {
		return nil // it is dead already, and its pidfd says so
	}
	entry := runEntry{PID: p.pid, Start: start, What: what}
	line, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live[p] = entry
	if r.lines++; r.lines > recordSlack+2*len(r.live) {
		return r.compact()
	}
	if err := r.append(append(line, '\n')); err != nil {
		return fmt.Errorf("cannot record %s: %w", what, err)
	}
	return nil
}

// append writes one line whole or not at all: what a full file system has taken of it would spoil the next one, and with it the
// record; mu is held.
func (r *runRecord) append(line []byte) error {
	end, err := r.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err = r.file.Write(line); err == nil {
		return nil
	}
	_, seek := r.file.Seek(end, io.SeekStart)
	return errors.Join(err, r.file.Truncate(end), seek)
}

func (r *runRecord) close() {
	if r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		_ = r.file.Close()
	}
}

// startTime is field 22 of /proc/PID/stat (proc(5)); false for a process that is gone. A zombie has one: state Z is also that of a
// process whose first thread has ended while others run.
func startTime(pid int) (uint64, bool) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return 0, false
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	return start, err == nil
}

// errNoRecord is a first run, or one whose directory was lost.
var errNoRecord = errors.New("no earlier run")

// readRunRecord reads what the earlier run has left. A file that somebody else could have written, or that is no record of ours,
// is an error and nothing of it is used. torn says that its last line is incomplete, as after a full disk.
func readRunRecord(dir string) (header runHeader, entries []runEntry, torn bool, err error) {
	text, err := readOwnFile(filepath.Join(dir, runRecordFile), maxRunRecord)
	if errors.Is(err, os.ErrNotExist) {
		return runHeader{}, nil, false, errNoRecord
	}
	if err != nil {
		return runHeader{}, nil, false, err
	}
	return parseRunRecord(text)
}

func parseRunRecord(text []byte) (header runHeader, entries []runEntry, torn bool, err error) {
	lines := bytes.SplitAfter(text, []byte{'\n'})
	for i, line := range lines {
		if len(line) == 0 {
			break
		}
		if line[len(line)-1] != '\n' {
			torn = true
			break
		}
		if i == 0 {
			if err := strictly(line, &header); err != nil {
				return runHeader{}, nil, false, fmt.Errorf("line 1 is no header: %w", err)
			}
			if header.Schema != runSchema || !isRunID(header.RunID) || header.GraceMS < 0 || header.GraceMS > time.Hour.Milliseconds() {
				return runHeader{}, nil, false, fmt.Errorf("line 1 is no header of schema %d", runSchema)
			}
			continue
		}
		var e runEntry
		if err := strictly(line, &e); err != nil || e.PID < 2 || e.PID > 1<<22 || e.Start == 0 {
			return runHeader{}, nil, false, fmt.Errorf("line %d names no process", i+1)
		}
		entries = append(entries, e)
	}
	if header.RunID == "" {
		return runHeader{}, nil, false, errors.New("it has no header")
	}
	return header, entries, torn, nil
}

func strictly(line []byte, into any) error {
	if len(line) > maxRecordLine {
		return fmt.Errorf("it has %d bytes", len(line))
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("more follows")
	}
	return nil
}

func isRunID(id string) bool {
	if len(id) != 16 {
		return false
	}
	for _, c := range id {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
