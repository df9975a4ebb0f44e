package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const oldRun = "00000000deadbeef"

// sleeper starts a process of a run (none for an empty id) and returns it; it is killed and reaped with the test.
func sleeper(t *testing.T, runID string) *exec.Cmd {
	t.Helper()
	c := exec.Command("sleep", "600")
	c.Env = []string{"PATH=" + os.Getenv("PATH")}
	if runID != "" {
		c.Env = append(c.Env, "PITBOSS_RUN_ID="+runID)
	}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	await(t, 10*time.Second, "executed", func() bool {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.Process.Pid))
		return strings.TrimSpace(string(name)) == "sleep"
	})
	return c
}

// record writes a record as an earlier run would have left it.
func record(t *testing.T, dir string, change func(*runHeader), entries ...runEntry) runHeader {
	t.Helper()
	now, err := newRunHeader("00000000000000aa", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	old := now
	old.RunID, old.GraceMS = oldRun, 0
	if change != nil {
		change(&old)
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	if err := e.Encode(old); err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if err := e.Encode(entry); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, runRecordFile), text.String(), 0o600)
	return now
}

func entryOf(t *testing.T, c *exec.Cmd, what string) runEntry {
	t.Helper()
	start, ok := startTime(c.Process.Pid)
	if !ok {
		t.Fatal("no start time")
	}
	return runEntry{c.Process.Pid, start, what}
}

// What the earlier run has left is ended, by number and start or by its environment; everybody else lives.
func TestSweepEndsTheEarlierRunAndNobodyElse(t *testing.T) {
	dir := t.TempDir()
	marked, recorded := sleeper(t, oldRun), sleeper(t, "")
	reused, other, stranger := sleeper(t, ""), sleeper(t, "00000000deadbeee"), sleeper(t, "")
	wrong := entryOf(t, reused, "worker b")
	wrong.Start++ // its number was another process's in the earlier run
	now := record(t, dir, nil, entryOf(t, recorded, "worker a"), wrong)
	s := sweep(dir, now)
	if s.Killed != 2 || len(s.Left) != 0 || s.RunID != oldRun || s.Refused != "" {
		t.Errorf("%+v", s)
	}
	for name, c := range map[string]*exec.Cmd{"marked": marked, "recorded": recorded} {
		if alive(c.Process.Pid) {
			t.Errorf("the %s process is left", name)
		}
	}
	for name, c := range map[string]*exec.Cmd{"reused": reused, "other": other, "stranger": stranger} {
		if !alive(c.Process.Pid) {
			t.Errorf("the %s process was killed", name)
		}
	}
}

// A process whose first thread has ended shows state Z in /proc while its others run on.
func TestSweepEndsAProcessWithoutItsFirstThread(t *testing.T) {
	dir := t.TempDir()
	c := exec.Command("python3", "-c", "import ctypes, threading, time\n"+
		"threading.Thread(target=time.sleep, args=(600,)).start()\nctypes.CDLL(None).pthread_exit(None)")
	must(t, c.Start())
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	stat := filepath.Join("/proc", fmt.Sprint(c.Process.Pid), "stat")
	await(t, 10*time.Second, "without its first thread", func() bool { state, _, ok := readStat(stat); return ok && state == 'Z' })
	handle, err := openPidfd(c.Process.Pid)
	must(t, err)
	defer handle.close()
	if !unendedProcess(handle) {
		t.Fatal("it has ended: the test sees nothing")
	}
	now := record(t, dir, nil, entryOf(t, c, "worker a"))
	if s := sweep(dir, now); s.Killed != 1 || len(s.Left) != 0 {
		t.Errorf("%+v", s)
	}
	if unendedProcess(handle) {
		t.Error("it runs on")
	}
}

func unendedProcess(p *pidfd) (living bool) {
	_ = p.control(func(fd int) error { living = unended(fd); return nil })
	return living
}

// A number that was given to another process before its first bearer is forgotten stays known, and recorded: what is expected to fall
// to the agent is not killed as a stranger.
func TestForgettingAProcessKeepsTheNextBearerOfItsNumber(t *testing.T) {
	old, err := openPidfd(os.Getpid())
	must(t, err)
	defer old.close()
	next, err := openPidfd(os.Getpid())
	must(t, err)
	defer next.close()
	c := &children{known: map[int]*pidfd{}}
	c.expect(old)
	c.expect(next)
	c.forget(old)
	if c.known[next.pid] != next {
		t.Error("the next one is a stranger")
	}
	c.forget(next)
	if len(c.known) != 0 {
		t.Errorf("still known: %v", c.known)
	}
	header, err := newRunHeader(oldRun, time.Second)
	must(t, err)
	r, err := startRunRecord(t.TempDir(), header)
	must(t, err)
	defer r.close()
	must(t, r.add("worker old", old))
	must(t, r.add("worker next", next))
	r.remove(old)
	must(t, r.lengthen(time.Minute)) // writes it anew
	_, entries, _, err := readRunRecord(r.dir)
	if err != nil || len(entries) != 1 || entries[0].What != "worker next" {
		t.Errorf("%v %v", entries, err)
	}
}

// The numbers of another boot or pid namespace mean nothing here; in another namespace the environment still does.
func TestSweepUsesNumbersOfThisBootAndNamespaceOnly(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*runHeader)
		killed int
	}{
		"boot":       {func(h *runHeader) { h.BootID = "another" }, 0},
		"namespace":  {func(h *runHeader) { h.PIDNS++ }, 1},
		"no boot id": {func(h *runHeader) { h.BootID = "" }, 1}, // of the earlier run: it may be of another boot, its mark cannot
		"control":    {nil, 2},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			recorded := sleeper(t, "")
			sleeper(t, oldRun)
			now := record(t, dir, c.change, entryOf(t, recorded, "worker a"))
			if s := sweep(dir, now); s.Killed != c.killed {
				t.Errorf("%+v, want %d", s, c.killed)
			}
			if alive(recorded.Process.Pid) != (name != "control") {
				t.Errorf("the recorded process lives: %v", alive(recorded.Process.Pid))
			}
		})
	}
}

// A keeper that is still at work gets the grace that it gives; it ends by itself here, and nobody is killed.
func TestSweepWaitsForKeepers(t *testing.T) {
	dir := t.TempDir()
	c := exec.Command("sleep", "0.4")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	entry := entryOf(t, c, "keeper of a")
	go func() { _ = c.Wait(); close(reaped) }()
	now := record(t, dir, func(h *runHeader) { h.GraceMS = 20000 }, entry)
	s := sweep(dir, now)
	if s.Killed != 0 || s.TookMS < 100 || s.TookMS > 15000 {
		t.Errorf("%+v", s)
	}
	<-reaped
	if !c.ProcessState.Success() {
		t.Errorf("the keeper was killed: %v", c.ProcessState)
	}
}

// What somebody else could have written, or is no record of ours, is refused with its reason, and nobody is killed by it.
func TestRecordsThatAreRefused(t *testing.T) {
	good := `{"schema":1,"run_id":"` + oldRun + `","boot_id":"b","pid_ns":1,"agent":2,"grace_ms":0}` + "\n"
	for name, c := range map[string]struct {
		prepare func(t *testing.T, file string)
		want    string
	}{
		"a directory":     {func(t *testing.T, file string) { must(t, os.Mkdir(file, 0o700)) }, "not a regular file"},
		"a fifo":          {func(t *testing.T, file string) { must(t, syscall.Mkfifo(file, 0o600)) }, "not a regular file"},
		"a symbolic link": {func(t *testing.T, file string) { must(t, os.Symlink("/etc/passwd", file)) }, "too many levels"},
		"another owner":   {func(t *testing.T, file string) { write(t, file, good, 0o600); must(t, os.Chown(file, 12345, 0)) }, "belongs to user 12345"},
		"writable":        {func(t *testing.T, file string) { write(t, file, good, 0o600); must(t, os.Chmod(file, 0o666)) }, "others may write it"},
		"huge":            {func(t *testing.T, file string) { write(t, file, "", 0o600); must(t, os.Truncate(file, maxRunRecord+1)) }, "larger than"},
		"empty":           {func(t *testing.T, file string) { write(t, file, "", 0o600) }, "no header"},
		"garbage":         {func(t *testing.T, file string) { write(t, file, "\x00\xff\n", 0o600) }, "line 1"},
		"another schema":  {func(t *testing.T, file string) { write(t, file, strings.Replace(good, ":1,", ":2,", 1), 0o600) }, "schema 1"},
		"a bad run id":    {func(t *testing.T, file string) { write(t, file, strings.Replace(good, "dead", "DEAD", 1), 0o600) }, "line 1"},
		"an unknown key": {func(t *testing.T, file string) {
			write(t, file, good+`{"pid":5,"start":5,"what":"w","x":1}`+"\n", 0o600)
		}, "line 2"},
		"pid 1":          {func(t *testing.T, file string) { write(t, file, good+`{"pid":1,"start":5,"what":"w"}`+"\n", 0o600) }, "line 2"},
		"a negative pid": {func(t *testing.T, file string) { write(t, file, good+`{"pid":-1,"start":5,"what":"w"}`+"\n", 0o600) }, "line 2"},
		"two in a line": {func(t *testing.T, file string) {
			write(t, file, good+`{"pid":5,"start":5}{"pid":6,"start":5}`+"\n", 0o600)
		}, "line 2"},
		"a long line": {func(t *testing.T, file string) {
			write(t, file, good+`{"what":"`+strings.Repeat("x", maxRecordLine)+`"}`+"\n", 0o600)
		}, "line 2"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.prepare(t, filepath.Join(dir, runRecordFile))
			now, err := newRunHeader("00000000000000aa", time.Second)
			must(t, err)
			if s := sweep(dir, now); !strings.Contains(s.Refused, c.want) || !strings.Contains(s.Refused, runRecordFile) || s.Killed != 0 {
				t.Errorf("%+v, want %q", s, c.want)
			}
		})
	}
	if _, _, _, err := readRunRecord(t.TempDir()); !errors.Is(err, errNoRecord) {
		t.Errorf("no file: %v", err)
	}
}

// A line that a full disk cut is ignored, and what came before it is used.
func TestATornRecordIsUsedUpToTheTear(t *testing.T) {
	good := `{"schema":1,"run_id":"` + oldRun + `","boot_id":"b","pid_ns":1,"agent":2,"grace_ms":0}` + "\n" + `{"pid":7,"start":8,"what":"worker a"}` + "\n"
	whole := len(good)
	text := good + `{"pid":9,"start":10,"what":"worker b"}`
	for cut := whole; cut < len(text); cut++ {
		_, entries, torn, err := parseRunRecord([]byte(text[:cut]))
		if err != nil || len(entries) != 1 || torn != (cut > whole) {
			t.Fatalf("cut at %d: %v %v %v", cut, entries, torn, err)
		}
	}
}

func FuzzRunRecord(f *testing.F) {
	f.Add([]byte(`{"schema":1,"run_id":"` + oldRun + `","boot_id":"b","pid_ns":1,"agent":2,"grace_ms":0}` + "\n" + `{"pid":7,"start":8,"what":"worker a"}` + "\n{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		header, entries, _, err := parseRunRecord(text)
		if err != nil {
			return
		}
		if !isRunID(header.RunID) || header.GraceMS < 0 {
			t.Errorf("header %+v", header)
		}
		for _, e := range entries {
			if e.PID < 2 || e.Start == 0 {
				t.Errorf("entry %+v", e)
			}
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A pool that loses a worker with each call for days leaves a small record, and the living are in it.
func TestARecordHoldsTheLivingAndStaysSmall(t *testing.T) {
	dir := t.TempDir()
	header, err := newRunHeader(oldRun, time.Second)
	must(t, err)
	r, err := startRunRecord(dir, header)
	must(t, err)
	defer r.close()
	lasting, passing := &pidfd{pid: sleeper(t, "").Process.Pid}, &pidfd{pid: os.Getpid()}
	must(t, r.add("worker lasting", lasting))
	for range 3 * recordSlack {
		must(t, r.add("worker passing", passing))
		r.remove(passing)
	}
	_, entries, torn, err := readRunRecord(dir)
	if err != nil || torn || len(entries) > recordSlack+8 {
		t.Fatalf("%d entries, torn %v: %v", len(entries), torn, err)
	}
	if i := slices.IndexFunc(entries, func(e runEntry) bool { return e.What == "worker lasting" }); i < 0 || entries[i].PID != lasting.pid {
		t.Error("the lasting process is not in the record any more")
	}
}
