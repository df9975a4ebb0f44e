package examples_test

import (
	"bytes"
	"encoding/json"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// service is `pitboss agent` with one of the set-ups, until the test ends.
type service struct {
	*agent
	dir    string
	stderr bytes.Buffer
}

// serve starts the set-up in a runtime directory; two may share one.
func serve(t *testing.T, dir, config string, flags ...string) *service {
	t.Helper()
	s := &service{agent: &agent{t: t, bin: pitboss(t), socket: filepath.Join(dir, "pitboss", "agent.sock")}, dir: dir}
	for i, flag := range flags {
		if flag == "--instance" {
			s.socket = filepath.Join(dir, "pitboss", flags[i+1]+".sock")
		}
	}
	cmd := exec.Command(s.bin, append([]string{"agent", "--config", filepath.Join("setups", config)}, flags...)...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
	cmd.Stderr = &s.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the agent ended with %v\n%s", err, &s.stderr)
		}
	})
	output(t, s.bin, "--socket", s.socket, "wait", "--timeout", "60s")
	return s
}

// runtimeDir is short, as sockets must be.
func runtimeDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "setup")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// result decodes what a call has printed.
func result[T any](t *testing.T, text string) (value T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v: %q", err, text)
	}
	return value
}

// TestEverySetupIsRight: `config check` of every file, on a host that has the groups which they name; and on one that has not, roles.yaml
// is refused, which is the check's own control.
func TestEverySetupIsRight(t *testing.T) {
	files, err := filepath.Glob("setups/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	groups := filepath.Join(t.TempDir(), "group")
	text, err := os.ReadFile("/etc/group")
	if err != nil {
		t.Fatal(err)
	}
	known := ""
	for line := range strings.Lines(string(text)) {
		if name, _, _ := strings.Cut(line, ":"); name != "adm" && !strings.HasPrefix(name, "pitboss") {
			known += line
		}
	}
	check := func(groupFile, file string) (string, error) {
		if err := os.WriteFile(groups, []byte(groupFile), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("unshare", "--mount", "sh", "-c", `mount --bind "$1" /etc/group && exec "$2" config check "$3"`, "sh", groups, pitboss(t), file).CombinedOutput()
		return string(out), err
	}
	for _, file := range files {
		if out, err := check(known+"adm:x:4:\npitboss-clients:x:990:\npitboss-admins:x:991:\n", file); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	if out, err := check(known, "setups/roles.yaml"); err == nil || !strings.Contains(out, `group "pitboss-admins" is not in /etc/group`) {
		t.Errorf("%v: %s", err, out)
	}
}

// TestTheWebSetup: pages are answered while a report runs, each pool has its own tools, and a report's items come as they are found.
func TestTheWebSetup(t *testing.T) {
	s := serve(t, runtimeDir(t), "web.yaml")
	report := exec.Command(s.bin, "--socket", s.socket, "call", "report/primes", "below=20000000")
	stdout, err := report.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Start(); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 2)
	if _, err := stdout.Read(first); err != nil || first[0] != '2' {
		t.Fatalf("%q %v", first, err)
	}
	if got := result[string](t, s.call("page/table", `rows=[["a<b","1"]]`)); got != "<table><tr><td>a&lt;b</td><td>1</td></tr></table>" {
		t.Error(got)
	}
	if calls := output(t, s.bin, "--socket", s.socket, "calls"); !strings.Contains(calls, "primes") {
		t.Errorf("the report has ended before the page was answered: %s", calls)
	}
	_ = report.Process.Signal(syscall.SIGINT)
	_ = report.Wait()
	if out, err := exec.Command(s.bin, "--socket", s.socket, "call", "page/primes", "below=10").CombinedOutput(); err == nil || !strings.Contains(string(out), "UNKNOWN_TOOL") {
		t.Errorf("pages make reports: %v %s", err, out)
	}
}

// TestTheGPUSetup: each worker has the GPU of its index, and its successor the same one.
func TestTheGPUSetup(t *testing.T) {
	s := serve(t, runtimeDir(t), "gpu.yaml")
	type place struct {
		Index  int
		Device string
		PID    int
	}
	seen := map[int]int{} // pid by index
	ask := func() {
		out, err := exec.Command(s.bin, "--socket", s.socket, "call", "where").CombinedOutput()
		if err != nil && strings.Contains(string(out), "WORKER_DIED") { // it was given to the one that was killed, a moment before the agent knew
			return
		}
		p := result[place](t, string(out))
		if p.Device != strconv.Itoa(p.Index) {
			t.Errorf("the worker of index %d has device %q", p.Index, p.Device)
		}
		seen[p.Index] = p.PID
	}
	for deadline := time.Now().Add(time.Minute); len(seen) < 4 && time.Now().Before(deadline); { // who is free takes the call
		ask()
	}
	if len(seen) != 4 {
		t.Fatalf("only the workers %v have answered", seen)
	}
	before := seen[2]
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); seen[2] == before && time.Now().Before(deadline); {
		ask()
	}
	if seen[2] == before {
		t.Error("the worker of index 2 was not replaced")
	}
}

// TestTheLegacySetup: the script's words against wc's relation, its exit code, its worker's limits, and the nightly replacement.
func TestTheLegacySetup(t *testing.T) {
	s := serve(t, runtimeDir(t), "legacy.yaml")
	text := filepath.Join(t.TempDir(), "words")
	if err := os.WriteFile(text, []byte("b a c a b a\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	type ended struct {
		Code   int
		Output string
	}
	for range 4 { // each worker more than once: what the script has changed is put back
		if got := result[ended](t, s.call("run", `arguments=["`+text+`"]`)); got != (ended{0, "3 a\n2 b\n1 c\n"}) {
			t.Errorf("%+v", got)
		}
	}
	if got := result[ended](t, s.call("run", "arguments=[]")); got.Code != 2 {
		t.Errorf("%+v", got)
	}
	pids := func() (all []int) {
		var st struct {
			Pools []struct {
				Start   string `json:"start_method"`
				Workers []struct{ PID int }
			}
		}
		if err := json.Unmarshal([]byte(output(t, s.bin, "--socket", s.socket, "status", "--json")), &st); err != nil || st.Pools[0].Start != "exec" {
			t.Fatalf("%v %+v", err, st)
		}
		for _, w := range st.Pools[0].Workers {
			all = append(all, w.PID)
		}
		return all
	}
	before := pids()
	limits, err := os.ReadFile("/proc/" + strconv.Itoa(before[0]) + "/limits")
	if err != nil || !strings.Contains(string(limits), "Max open files            256 ") {
		t.Errorf("%v\n%s", err, limits)
	}
	output(t, s.bin, "--socket", s.socket, "restart", "--pool", "legacy")
	left := before
	for deadline := time.Now().Add(time.Minute); len(left) > 0 && time.Now().Before(deadline); { // the successors serve; the last old one may still be ending
		now := pids()
		left = slices.DeleteFunc(slices.Clone(before), func(pid int) bool { return !slices.Contains(now, pid) })
	}
	if len(left) > 0 || len(pids()) != 2 {
		t.Errorf("of the workers %v there are still %v", before, left)
	}
}

// TestTwoInstances on one host: each has its own socket and its own end.
func TestTwoInstances(t *testing.T) {
	dir := runtimeDir(t)
	serve(t, dir, "web.yaml")
	batch := serve(t, dir, "batch.yaml", "--instance", "batch")
	ask := func(args ...string) (string, error) {
		c := exec.Command(batch.bin, args...)
		c.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
		out, err := c.CombinedOutput()
		return string(out), err
	}
	text, err := os.ReadFile("setups/batch.py")
	if err != nil {
		t.Fatal(err)
	}
	out, err := ask("--instance", "batch", "call", "checksum", "path="+mustAbs(t, "setups/batch.py"))
	if want := strconv.FormatUint(uint64(crc32.ChecksumIEEE(text)), 10) + "\n"; err != nil || out != want {
		t.Errorf("%v %q, want %q", err, out, want)
	}
	if out, err := ask("--instance", "batch", "stop"); err != nil {
		t.Errorf("%v %s", err, out)
	}
	if out, err := ask("--instance", "batch", "status"); err == nil || !strings.Contains(out, "no agent at") {
		t.Errorf("%v %s", err, out)
	}
	if out, err := ask("health"); err != nil {
		t.Errorf("the other one went with it: %v %s", err, out)
	}
}

func mustAbs(t *testing.T, name string) string {
	t.Helper()
	abs, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}
