package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
)

var (
	rounds = flag.Int("chaos.rounds", 2, "rounds of each cell of the kill matrix")
	seed   = flag.Uint64("chaos.seed", 0, "seed of the moments of the kills; 0 takes a new one")
)

const (
	grace = 300 * time.Millisecond
	limit = 5 * time.Second
)

// victim is a worker that ignores TERM, keeps a diary until it is killed, and has three escapees. Its TERMs are counted by
// the interpreter's own C handler, which writes one byte each to the wakeup descriptor: a handler in Python could be
// interrupted by the end of the call between its entry and its write, and would lose the one it should witness.
const victim = `
import os, signal, subprocess, sys, threading, time
import pitboss

DIR = os.environ["CHAOS_DIR"]

def note(kind):
    fd = os.open(os.path.join(DIR, "%s.%d" % (kind, os.getpid())), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, ("%f\n" % time.monotonic()).encode())
    os.close(fd)

SLEEP = [sys.executable, "-S", "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"]

class Victim(pitboss.Adapter):
    def setup(self):
        subprocess.Popen(SLEEP)
        subprocess.Popen(SLEEP, start_new_session=True)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            if os.fork() == 0:
                os.execv(SLEEP[0], SLEEP)
            os._exit(0)
        os.waitpid(pid, 0)
        witness = os.path.join(DIR, "signals.%d" % os.getpid())
        signal.set_wakeup_fd(os.open(witness, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o600))
        signal.signal(signal.SIGTERM, lambda *a: None)
        note("ready")
        if os.path.exists(os.path.join(DIR, "slow")):
            self.forever()

    def forever(self):
        while True:
            try:
                note("alive")
                time.sleep(0.01)
            except BaseException:
                pass

    def teardown(self):
        self.forever()

    @pitboss.tool
    def hang(self):
        note("hang")
        self.forever()

    @pitboss.tool
    def drip(self):
        note("drip")
        while True:
            try:
                note("alive")
                yield 1
                time.sleep(0.005)
            except BaseException:
                pass
`

// run is one agent with its tree.
type run struct {
	t              *testing.T
	token, dir     string
	cmd            *exec.Cmd
	socket         string
	agent          int
	watchdog       int
	launcher       int
	keeper, worker int
}

func binary(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PITBOSS_BIN") // where prebuilt binaries are
	if dir == "" {
		dir = "../../bin"
	}
	path, err := filepath.Abs(filepath.Join(dir, "pitboss"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; run `make build` first", err)
	}
	return path
}

func start(t *testing.T, phase string) *run {
	t.Helper()
	r := &run{t: t, token: strconv.FormatUint(rand.Uint64(), 16), dir: t.TempDir()}
	adapter := filepath.Join(r.dir, "victim.py")
	must(t, os.WriteFile(adapter, []byte(victim), 0o600))
	if phase == "starting" {
		must(t, os.WriteFile(filepath.Join(r.dir, "slow"), nil, 0o600))
	}
	r.socket = filepath.Join(r.dir, "s")
	r.cmd = exec.Command(binary(t), "--socket", r.socket, "run", "--workers", "1", "--kill-grace", grace.String(), adapter)
	r.cmd.Env = append(os.Environ(), TokenEnv+"="+r.token, "CHAOS_DIR="+r.dir, "XDG_RUNTIME_DIR="+r.dir)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := os.Create(filepath.Join(r.dir, "log"))
	must(t, err)
	defer log.Close()
	r.cmd.Stdout, r.cmd.Stderr = log, log
	must(t, r.cmd.Start())
	r.await("ready")
	r.find()
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits for a note of the worker.
func (r *run) await(kind string) {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if found, _ := filepath.Glob(filepath.Join(r.dir, kind+".*")); len(found) > 0 {
			return
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(r.dir, "log"))
			r.t.Fatalf("no %q within 20 s; log:\n%s", kind, log)
		}
		<-tick.C
	}
}

// find reads the tree from /proc: watchdog → agent → launcher → keeper → worker.
func (r *run) find() {
	r.t.Helper()
	only := func(pid int, what string) int {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		all, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		for _, name := range all {
			if more, e := os.ReadFile(name); e == nil && len(strings.TrimSpace(string(text))) == 0 {
				text = more
			}
		}
		fields := strings.Fields(string(text))
		if err != nil || len(fields) == 0 {
			r.t.Fatalf("process %d has no %s (%v)", pid, what, err)
		}
		child, _ := strconv.Atoi(fields[0])
		return child
	}
	r.watchdog = r.cmd.Process.Pid
	r.agent = only(r.watchdog, "agent")
	r.launcher = only(r.agent, "launcher")
	r.keeper = only(r.launcher, "keeper")
	r.worker = only(r.keeper, "worker")
}

// enter brings the worker into a phase; cancel ends the client of the call.
func (r *run) enter(phase string) (cancel func()) {
	r.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	call := func(f func(c *client.Client)) {
		c, err := client.Dial(ctx, r.socket)
		must(r.t, err)
		go func() { defer close(ended); defer c.Close(); f(c) }()
	}
	switch phase {
	case "mid-call":
		call(func(c *client.Client) { _, _ = c.CallRaw(ctx, client.Request{Tool: "hang"}) })
		r.await("hang")
	case "mid-stream":
		call(func(c *client.Client) {
			_, _ = c.StreamRaw(ctx, client.Request{Tool: "drip"}, func(client.Value) error { return nil })
		})
		r.await("drip")
	default:
		if phase == "idle" {
			r.awaitReady()
		}
		close(ended)
	}
	return func() { stop(); <-ended }
}

func (r *run) awaitReady() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, r.socket)
	must(r.t, err)
	defer c.Close()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		text, err := c.Status(ctx)
		must(r.t, err)
		var s struct{ Pools []struct{ State string } }
		must(r.t, json.Unmarshal(text, &s))
		if s.Pools[0].State == "ready" {
			return
		}
		<-tick.C
	}
}

func (r *run) kill(names string) {
	pids := map[string]int{"agent": r.agent, "watchdog": r.watchdog, "launcher": r.launcher, "keeper": r.keeper}
	for _, name := range strings.Split(names, "+") {
		_ = syscall.Kill(pids[name], syscall.SIGKILL) // our own descendants, not yet reaped by their guardians
	}
}

// checkGrace: the worker saw exactly one TERM and lived on for its grace after it. The moments are the times the kernel
// last changed the two files: both come from one clock.
func (r *run) checkGrace() {
	r.t.Helper()
	signals := filepath.Join(r.dir, fmt.Sprintf("signals.%d", r.worker))
	seen, err := os.ReadFile(signals)
	must(r.t, err)
	if terms := bytes.Count(seen, []byte{byte(syscall.SIGTERM)}); terms != 1 {
		log, _ := os.ReadFile(filepath.Join(r.dir, "log"))
		r.t.Errorf("worker %d saw %d TERM of the signals %v, want exactly 1; log:\n%s", r.worker, terms, seen, log)
		return
	}
	term, last := changed(r.t, signals), changed(r.t, filepath.Join(r.dir, fmt.Sprintf("alive.%d", r.worker)))
	if had := last.Sub(term); had < grace*7/10 {
		r.t.Errorf("worker lived %s after its last signal, its grace is %s", had, grace)
	}
}

func changed(t *testing.T, name string) time.Time {
	t.Helper()
	info, err := os.Stat(name)
	must(t, err)
	return info.ModTime()
}

// TestKillMatrix kills every part in every phase. What remains of the agent afterwards is stopped by the SIGKILL of all
// that still guards, so each cell ends with an empty tree and says how long that took.
func TestKillMatrix(t *testing.T) {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("replay with -chaos.seed=%d", s)
	random := rand.New(rand.NewPCG(s, 0))
	victims := []string{"agent", "watchdog", "launcher", "keeper", "agent+watchdog", "agent+watchdog+launcher"}
	for _, names := range victims {
		for _, phase := range []string{"starting", "idle", "mid-call", "mid-stream"} {
			t.Run(names+"/"+phase, func(t *testing.T) {
				var took []time.Duration
				survivors := 0
				for range *rounds {
					left, empty := killOnce(t, names, phase, time.Duration(random.Int64N(int64(5*time.Millisecond))))
					survivors, took = survivors+left, append(took, empty)
				}
				sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
				t.Logf("%d rounds, %d survivors, empty after p50 %s p99 %s max %s", len(took), survivors, took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
			})
		}
	}
}

func killOnce(t *testing.T, names, phase string, moment time.Duration) (survivors int, empty time.Duration) {
	t.Helper()
	r := start(t, phase)
	cancel := r.enter(phase)
	timer := time.NewTimer(moment)
	<-timer.C
	waited := make(chan error, 1)
	go func() { waited <- r.cmd.Wait() }()
	r.kill(names)
	if names == "keeper" || names == "launcher" {
		if names == "keeper" {
			r.awaitGone(r.worker)
		}
		_ = syscall.Kill(r.agent, syscall.SIGKILL) // these two the agent survives: end it for the count
	}
	if names == "watchdog" && strings.HasPrefix(phase, "mid") {
		// The agent drains, which waits for the call. Two orders are an operator in a hurry: the ladder begins.
		_ = syscall.Kill(r.agent, syscall.SIGTERM)
		_ = syscall.Kill(r.agent, syscall.SIGINT)
	}
	left, took := WaitEmpty(r.token, limit)
	<-waited
	cancel()
	if len(left) > 0 {
		for _, pid := range left {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			t.Errorf("survivor %d: %q", pid, line)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if names != "keeper" {
		r.checkGrace()
	}
	return len(left), took
}

func (r *run) awaitGone(pid int) {
	r.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || len(env) == 0 {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("process %d outlived its keeper", pid)
		}
	}
}

// TestUnsupervisedControl is the instrument's proof: the same worker's escapees without pitboss all survive the SIGKILL of
// their parent, and the counter sees every one.
func TestUnsupervisedControl(t *testing.T) {
	token := strconv.FormatUint(rand.Uint64(), 16)
	const script = `
import os, subprocess, sys
sleep = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
for new in (False, True):
    subprocess.Popen(sleep, start_new_session=new)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sleep[0], sleep)
    os._exit(0)
os.wait()
print("up", flush=True)
import time; time.sleep(600)
`
	cmd := exec.Command("python3", "-c", script)
	cmd.Env = append(os.Environ(), TokenEnv+"="+token)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("%q %v", line, err)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	left := Alive(token)
	for deadline := time.Now().Add(limit); len(left) != 3 && time.Now().Before(deadline); { // between fork and exec a child shows no environment
		left = Alive(token)
	}
	for _, pid := range left {
		must(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	if len(left) != 3 {
		t.Fatalf("the counter sees %d of 3 leaked processes", len(left))
	}
	if left, _ := WaitEmpty(token, limit); len(left) != 0 {
		t.Fatalf("%d left after the clean-up", len(left))
	}
}
