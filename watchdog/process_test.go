package watchdog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait for an event in these tests; it is long because two noisy cores may be shared.
const patience = time.Minute

// testEnv carries a random token through the whole tree: survivors are found by it.
const testEnv = "PITBOSS_TEST_TOKEN"

var binary string // the watchdog, built once by TestMain

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && strings.HasPrefix(os.Args[1], "role=") {
		os.Exit(playRole(strings.TrimPrefix(os.Args[1], "role="), os.Args[2]))
	}
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if signal.Ignored(s) { // nohup: what we start would ignore it too
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	dir, err := os.MkdirTemp("", "watchdog-test")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "pitboss-watchdog")
	flags := []string{"build", "-trimpath", "-ldflags=-s -w", "-o", binary}
	if covered() {
		flags = append(flags, "-cover", "-coverpkg=github.com/pitboss-run/pitboss/...")
	}
	build := exec.Command("go", append(flags, "../cmd/watchdog")...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build the watchdog: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// covered says that the binaries shall count what they run (`make cover`).
func covered() bool { return os.Getenv("GOCOVERDIR") != "" }

// tree is one started watchdog with everything below it.
type tree struct {
	t      *testing.T
	cmd    *exec.Cmd
	token  string
	dir    string // its runtime directory
	stderr *lines
	stdout *lines
	agent  int
	done   chan struct{} // closed when cmd has been waited for
}

// options change how a tree is started.
type options struct {
	flags []string
	shell string   // runs under sh -c, with the watchdog's command line as "$@"
	wrap  []string // a command that runs the watchdog's command line
	env   []string
	files []*os.File
	// stderr replaces the collected one.
	stderr *os.File
	attr   *syscall.SysProcAttr
	stdin  *os.File
	bare   bool   // without the watchdog
	cgroup string // started in this one
}

func agentCommand(s script) []string {
	js, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return []string{os.Args[0], "role=agent", string(js)}
}

func startTree(t *testing.T, s script, o options) *tree {
	t.Helper()
	return startCommand(t, agentCommand(s), o)
}

func startCommand(t *testing.T, command []string, o options) *tree {
	t.Helper()
	tr := &tree{t: t, token: fmt.Sprintf("%s-%d-%d", t.Name(), os.Getpid(), time.Now().UnixNano()), dir: t.TempDir(), done: make(chan struct{})}
	args := command
	if !o.bare {
		args = append([]string{binary, "--runtime-dir", tr.dir}, o.flags...)
		args = append(append(args, "--"), command...)
	}
	if o.shell != "" {
		args = append([]string{"/bin/sh", "-c", o.shell, "sh"}, args...)
	}
	args = append(append([]string{}, o.wrap...), args...)
	tr.cmd = exec.Command(args[0], args[1:]...)
	// The race detector holds every exiting process for a second, which would eat the graces under test.
	tr.cmd.Env = append(append(os.Environ(), testEnv+"="+tr.token, "GORACE=atexit_sleep_ms=0"), o.env...)
	tr.cmd.ExtraFiles, tr.cmd.SysProcAttr = o.files, o.attr
	if o.stdin != nil {
		tr.cmd.Stdin = o.stdin
	}
	if o.cgroup != "" {
		dir, err := os.Open(o.cgroup)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		tr.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	}
	outR, outW := pipe(t)
	tr.cmd.Stdout = outW
	errR, errW := pipe(t)
	tr.cmd.Stderr = errW
	if o.stderr != nil {
		tr.cmd.Stderr = o.stderr
	}
	if err := tr.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = outW.Close()
	_ = errW.Close()
	tr.stdout, tr.stderr = collect(outR), collect(errR)
	go func() { _ = tr.cmd.Wait(); close(tr.done) }()
	t.Cleanup(func() {
		for _, pid := range tr.alive() { // only after a failure is anybody left
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		_ = tr.cmd.Process.Kill()
		<-tr.done
		if t.Failed() {
			t.Logf("stdout:\n%s\nstderr:\n%s", tr.stdout, tr.stderr)
		}
	})
	return tr
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

// ready waits until the agent and n children are up.
func (tr *tree) ready(n int) {
	tr.t.Helper()
	line := tr.stdout.wait(tr.t, " ready", 1)
	tr.agent, _ = strconv.Atoi(strings.Fields(line)[1])
	if n > 0 {
		tr.stdout.wait(tr.t, " up", n)
	}
}

func (tr *tree) signal(s syscall.Signal) {
	tr.t.Helper()
	if err := tr.cmd.Process.Signal(s); err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *tree) signalAgent(s syscall.Signal) {
	tr.t.Helper()
	if err := unix.Kill(tr.agent, s); err != nil {
		tr.t.Fatal(err)
	}
}

// exit waits for the started process and for all that was written, and checks its code and that nothing of the tree is left.
func (tr *tree) exit(code int) {
	tr.t.Helper()
	tr.exitCode(code)
	if left := tr.alive(); len(left) > 0 {
		tr.t.Errorf("%d processes left: %v", len(left), left)
		return
	}
	tr.stdout.end(tr.t)
	tr.stderr.end(tr.t)
}

// exitCode waits for the started process alone.
func (tr *tree) exitCode(code int) {
	tr.t.Helper()
	select {
	case <-tr.done:
	case <-time.After(patience):
		tr.t.Fatalf("still running after %v", patience)
	}
	if got := tr.cmd.ProcessState.ExitCode(); got != code {
		tr.t.Errorf("exit code %d (%v), want %d", got, tr.cmd.ProcessState, code)
	}
}

// alive counts by the kernel's own list: every process that carries the token and is not a zombie.
func (tr *tree) alive() []int {
	var pids []int
	dir, _ := os.ReadDir("/proc")
	for _, e := range dir {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err != nil || !bytes.Contains(env, []byte(testEnv+"="+tr.token+"\x00")) {
			continue
		}
		if stat, err := os.ReadFile("/proc/" + e.Name() + "/stat"); err == nil && statState(string(stat)) != 'Z' {
			pids = append(pids, pid)
		}
	}
	return pids
}

// deathRecord is the certificate as a reader sees it.
type deathRecord struct {
	Schema    int    `json:"schema"`
	RunID     string `json:"run_id"`
	AgentPID  int    `json:"agent_pid"`
	Cause     string `json:"cause"`
	DetectUS  int64  `json:"t_detect_us"`
	TermUS    int64  `json:"t_term_us"`
	EmptyUS   int64  `json:"t_empty_us"`
	Killed    int    `json:"killed"`
	Tier      string `json:"tier"`
	Proof     string `json:"proof"`
	Guarded   int    `json:"guarded"`
	Count     int    `json:"survivor_count"`
	Survivors []struct {
		PID    int    `json:"pid"`
		Name   string `json:"name"`
		State  string `json:"state"`
		Tracer int    `json:"tracer"`
		Wchan  string `json:"wchan"`
		Errno  int    `json:"errno"`
	} `json:"survivors"`
}

// certificate reads last-death.json.
func (tr *tree) certificate() deathRecord {
	tr.t.Helper()
	b, err := os.ReadFile(filepath.Join(tr.dir, certificateFile))
	if err != nil {
		tr.t.Fatal(err)
	}
	return parseCertificate(tr.t, b)
}

func parseCertificate(t *testing.T, b []byte) deathRecord {
	t.Helper()
	var d deathRecord
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil || d.Schema != 1 {
		t.Fatalf("%v in %s", err, b)
	}
	return d
}

func (tr *tree) noCertificate() {
	tr.t.Helper()
	if b, err := os.ReadFile(filepath.Join(tr.dir, certificateFile)); err == nil {
		tr.t.Errorf("unexpected certificate %s", b)
	}
}
