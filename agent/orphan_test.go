package agent

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lingering is a tool that ends only when it is cancelled, then prints far more than a pipe holds, and leaves a file for
// each step of its end; anything uncaught leaves one too.
const lingering = `
import atexit, os, sys, threading, time
import pitboss

def leave(name, text=""):
    with open(os.path.join(os.environ["MARKS"], name), "w") as f:
        f.write(text)

sys.excepthook = lambda kind, value, trace: leave("uncaught", repr(value))
threading.excepthook = lambda args: leave("uncaught", repr(args.exc_value))

class Lingering(pitboss.Adapter):
    def teardown(self):
        print("teardown " * 10000)
        leave("teardown")

    @pitboss.tool
    def linger(self):
        atexit.register(leave, "exited")
        leave("running")
        try:
            while True:
                time.sleep(0.01)
        except pitboss.Cancelled:
            try:
                for _ in range(20000):
                    print("x" * 100)
                    print("y" * 100, file=sys.stderr)
                sys.stdout.flush()
                leave("printed")
            except BaseException as error:
                leave("raised", repr(error))
                raise
`

// realTree is a private agent of the real programs, for one call.
type realTree struct {
	command *exec.Cmd
	stderr  *locked
	status  Status
}

type locked struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// startTree builds the programs and runs one call of the tool in dir; it returns when mark is there.
func startTree(t *testing.T, tool, mark string) *realTree {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"agent", "watchdog"} {
		out := filepath.Join(dir, map[string]string{"agent": "pitboss", "watchdog": "pitboss-watchdog"}[name])
		if text, err := exec.Command("go", "build", "-o", out, "../cmd/"+name).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	}
	write(t, filepath.Join(dir, "tools.py"), lingering, 0o600)
	binary := filepath.Join(dir, "pitboss")
	tree := &realTree{stderr: &locked{}}
	tree.command = exec.Command(binary, "run", "--runtime-dir", filepath.Join(dir, "run"), "--kill-grace", "15s", "tools.py", tool)
	tree.command.Dir, tree.command.Stderr = dir, tree.stderr
	tree.command.Env = append(os.Environ(), "MARKS="+filepath.Dir(mark))
	if err := tree.command.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, 60*time.Second, "running", func() bool { _, err := os.Stat(mark); return err == nil })
	text, err := exec.Command(binary, "--socket", filepath.Join(dir, "run", "agent.sock"), "status", "--json").Output()
	if err == nil {
		err = json.Unmarshal(text, &tree.status)
	}
	if err != nil || len(tree.status.Pools) != 1 || len(tree.status.Pools[0].Workers) != 1 {
		t.Fatalf("status: %v\n%s\n%s", err, text, tree.stderr)
	}
	return tree
}

// exitCode is field 52 of /proc/PID/stat (proc(5)): the wait status of a zombie that nobody has collected yet.
func exitCode(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	code, err := strconv.Atoi(fields[52-3])
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// After the agent's SIGKILL a tool may still print as much as it likes: nothing raises, teardown and atexit run, and the
// worker exits 0. Its keeper is stopped meanwhile, so that the kernel keeps the worker's exit status for us to read, and
// so that no TERM but the end of its control socket ends the worker.
func TestPrintAfterTheAgentsDeathRaisesNothing(t *testing.T) {
	marks := t.TempDir()
	tree := startTree(t, "linger", filepath.Join(marks, "running"))
	worker := tree.status.Pools[0].Workers[0]
	if err := syscall.Kill(worker.KeeperPID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(worker.KeeperPID, syscall.SIGCONT) }()
	if err := syscall.Kill(tree.status.Agent.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, 12*time.Second, "a zombie", func() bool {
		state, _, ok := readStat(filepath.Join("/proc", strconv.Itoa(worker.PID), "stat"))
		return ok && state == 'Z'
	})
	if status := unix.WaitStatus(exitCode(t, worker.PID)); !status.Exited() || status.ExitStatus() != 0 {
		t.Errorf("the worker's wait status is %#x", uint32(status))
	}
	for _, name := range []string{"printed", "teardown", "exited"} {
		if _, err := os.Stat(filepath.Join(marks, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"raised", "uncaught"} {
		if text, err := os.ReadFile(filepath.Join(marks, name)); err == nil {
			t.Errorf("%s: %s", name, text)
		}
	}
	if err := syscall.Kill(worker.KeeperPID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	_ = tree.command.Wait()
	if code := tree.command.ProcessState.ExitCode(); code != 70 {
		t.Errorf("the tree ended with %d\n%s", code, tree.stderr)
	}
	for _, pid := range []int{tree.status.Agent.PID, tree.status.Pools[0].LauncherPID, worker.KeeperPID, worker.PID} {
		if alive(pid) {
			t.Errorf("process %d is left", pid)
		}
	}
}
