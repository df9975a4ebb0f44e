package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	grace    = 300 * time.Millisecond
	drain    = 5 * time.Second // the shortest that a configuration may say
	limit    = 5 * time.Second
	patience = 30 * time.Second // for what is not measured
)

// Two pools, so that there are two launchers; two workers in one of them, so that one can serve while the other is replaced.
const (
	poolA, workersA = "a", 2
	poolB, workersB = "b", 1
	workers         = workersA + workersB
	launchers       = 2
	// everybody is watchdog, agent, launchers, a keeper and a worker each, and the workers' escapees.
	everybody = 2 + launchers + workers*(2+escapees)
)

// process is one process of a run, pinned by its pidfd.
type process struct {
	pid, fd int
	pool    string    // of a worker
	died    time.Time // set by watch
	watched chan struct{}
}

// run is one agent with its tree.
type run struct {
	t         *testing.T
	tree      Tree
	dir       string
	cmd       *exec.Cmd
	waited    chan struct{}
	socket    string
	watchdog  *process
	agent     *process
	launchers map[string]*process
	keepers   []*process // of workers[i]
	workers   []*process
	calls     []*call
	moment    time.Time // from here on nobody is guarded by the agent: a TERM and its grace come after it
}

// tools is the directory of the binaries under test: $PITBOSS_BIN, else the repository's bin.
func tools(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PITBOSS_BIN")
	if dir == "" {
		dir = "../../bin"
	}
	dir, err := filepath.Abs(dir)
	must(t, err)
	for _, name := range []string{"pitboss", "pitboss-watchdog"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Fatalf("%v; run `make build` first", err)
		}
	}
	return dir
}

// start starts the agent and returns as soon as its process exists; slow keeps the workers in setup, change has the last word
// about the command.
func start(t *testing.T, slow bool, change ...func(*run)) *run {
	t.Helper()
	r := &run{t: t, tree: newTree(t), waited: make(chan struct{}), launchers: map[string]*process{}}
	r.makeDir()
	r.write("victim.py", victim)
	r.write("config.yaml", fmt.Sprintf(`
pools:
  - {name: %s, adapter: victim.py, workers: %d, timeouts: {kill: %s, drain: %s}}
  - {name: %s, adapter: victim.py, workers: %d, timeouts: {kill: %s, drain: %s}}
`, poolA, workersA, grace, drain, poolB, workersB, grace, drain))
	if slow {
		r.write("slow", "")
	}
	r.socket = r.file("s")
	r.cmd = exec.Command(filepath.Join(tools(t), "pitboss"), "agent", "--config", r.file("config.yaml"), "--socket", r.socket, "--runtime-dir", r.file("run"))
	r.cmd.Env = append(os.Environ(), TokenEnv+"="+r.tree.Token, "CHAOS_DIR="+r.dir)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if r.tree.Cgroup != "" {
		dir, err := os.Open(r.tree.Cgroup)
		must(t, err)
		defer dir.Close()
		r.cmd.SysProcAttr.UseCgroupFD, r.cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	log, err := os.Create(r.file("log"))
	must(t, err)
	defer log.Close()
	r.cmd.Stdout, r.cmd.Stderr = log, log
	for _, f := range change {
		f(r)
	}
	must(t, r.cmd.Start())
	r.watchdog = r.pin(r.cmd.Process.Pid)
	go func() { _ = r.cmd.Wait(); close(r.waited) }()
	t.Cleanup(r.clear)
	r.until("an agent", func() bool {
		for _, pid := range childrenOf(r.watchdog.pid) {
			r.agent = r.pin(pid)
		}
		return r.agent != nil
	})
	return r
}

// makeDir makes the run's directory, in memory where that is possible: a worker that writes its diary to a busy disk cannot be
// killed until the disk has answered, which may take seconds, and would be counted against the kill path.
func (r *run) makeDir() {
	r.t.Helper()
	for _, base := range []string{"/dev/shm", os.TempDir()} {
		r.dir = filepath.Join(base, "chaos-"+r.tree.Token)
		if os.Mkdir(r.dir, 0o700) == nil {
			r.t.Cleanup(func() { _ = os.RemoveAll(r.dir) })
			return
		}
	}
	r.t.Fatal("cannot make a directory for the run")
}

// clear kills what a failed test left and gives its descriptors back.
func (r *run) clear() {
	for _, s := range r.tree.Alive() {
		_ = unix.Kill(s.PID, unix.SIGKILL)
	}
	<-r.waited
	for _, p := range append(append([]*process{r.watchdog, r.agent}, r.keepers...), r.workers...) {
		r.unpin(p)
	}
	for _, p := range r.launchers {
		r.unpin(p)
	}
}

func (r *run) unpin(p *process) {
	if p == nil {
		return
	}
	if p.watched != nil {
		<-p.watched
	}
	_ = unix.Close(p.fd)
}

func newTree(t *testing.T) Tree {
	t.Helper()
	tree := Tree{Token: fmt.Sprintf("%016x", rand.Uint64())}
	tree.Cgroup = newCgroup(t, tree.Token)
	return tree
}

// newCgroup makes a cgroup below our own, "" where we may not.
func newCgroup(t *testing.T, token string) string {
	t.Helper()
	own := ""
	text, _ := os.ReadFile("/proc/self/cgroup")
	for _, line := range strings.Split(string(text), "\n") {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			own = path
		}
	}
	for _, mount := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		dir := filepath.Join(mount, own, "chaos-"+token)
		if own == "" || os.Mkdir(dir, 0o700) != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "cgroup.events")); err != nil { // v1
			_ = os.Remove(dir)
			continue
		}
		t.Cleanup(func() {
			// A zombie of another parent holds it for a moment: until the file says that nobody is left (cgroups(7)).
			events, err := os.Open(filepath.Join(dir, "cgroup.events"))
			must(t, err)
			defer func() { _ = events.Close() }()
			for end := time.Now().Add(patience); os.Remove(dir) != nil && time.Now().Before(end); {
				text := make([]byte, 256)
				n, _ := events.ReadAt(text, 0) // by this descriptor: its poll tells of changes since its last read
				if !strings.Contains(string(text[:n]), "populated 0") {
					_, _ = unix.Poll([]unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}, int(time.Until(end)/time.Millisecond))
				}
			}
		})
		return dir
	}
	return ""
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *run) file(name string) string { return filepath.Join(r.dir, name) }

func (r *run) write(name, text string) {
	r.t.Helper()
	must(r.t, os.WriteFile(r.file(name), []byte(text), 0o600))
}

func (r *run) log() string {
	text, _ := os.ReadFile(r.file("log"))
	return string(text)
}

// until waits for a condition that the operating system shows.
func (r *run) until(what string, done func() bool) {
	r.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !done(); <-tick.C {
		if time.Now().After(end) {
			r.t.Fatalf("no %s within %s; log:\n%s", what, patience, r.log())
		}
	}
}

// noted lists the workers that have written a note of this kind.
func (r *run) noted(kind string) map[int]bool {
	found, _ := filepath.Glob(r.file(kind + ".*"))
	pids := map[int]bool{}
	for _, name := range found {
		pid, _ := strconv.Atoi(strings.TrimPrefix(filepath.Ext(name), "."))
		pids[pid] = true
	}
	return pids
}

// pin opens a pidfd; the process must not be reaped yet.
func (r *run) pin(pid int) *process {
	r.t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	must(r.t, err)
	return &process{pid: pid, fd: fd}
}

// kill is by pidfd: it reaches this process or nobody.
func (p *process) kill(s syscall.Signal) { _ = unix.PidfdSendSignal(p.fd, s, nil, 0) }

// gone waits for the death, at most so long.
func (p *process) gone(within time.Duration) bool {
	set := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	for end := time.Now().Add(within); ; {
		left := max(time.Until(end), 0)
		n, err := unix.Poll(set, int(left.Milliseconds()))
		if n == 1 || err != unix.EINTR {
			return n == 1
		}
	}
}

// watch notes the moment of the death. clear joins it: by then everything is dead.
func (p *process) watch() {
	p.watched = make(chan struct{})
	go func() {
		defer close(p.watched)
		if p.gone(time.Hour) {
			p.died = time.Now()
		}
	}()
}

func childrenOf(pid int) []int {
	var pids []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(text)) {
			child, _ := strconv.Atoi(field)
			pids = append(pids, child)
		}
	}
	return pids
}

// descend reads the tree from /proc: watchdog → agent → launchers → keepers → workers. Every worker must have noted that
// its escapees exist, and the count of everybody must be exact: the instrument sees what it will later miss.
func (r *run) descend() {
	r.t.Helper()
	r.until("ready notes", func() bool { return len(r.noted("ready")) == workers })
	ready := r.noted("ready")
	for _, l := range childrenOf(r.agent.pid) {
		keepers := childrenOf(l)
		name := poolA
		if len(keepers) == workersB {
			name = poolB
		}
		r.launchers[name] = r.pin(l)
		for _, k := range keepers {
			for _, w := range childrenOf(k) {
				if ready[w] {
					r.keepers, r.workers = append(r.keepers, r.pin(k)), append(r.workers, r.pin(w))
					r.workers[len(r.workers)-1].pool = name
				}
			}
		}
	}
	if len(r.launchers) != launchers || len(r.workers) != workers {
		r.t.Fatalf("found %d launchers and %d workers in /proc", len(r.launchers), len(r.workers))
	}
	var all []Sighting
	r.until(fmt.Sprintf("%d processes", everybody), func() bool { all = r.tree.Alive(); return len(all) == everybody })
	for _, w := range r.workers {
		w.watch()
	}
}
