// Package examples_test runs the examples through the real binaries and compares each with another tool.
package examples_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
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
)

// pitboss is bin/pitboss, or the one in $PITBOSS_BIN.
func pitboss(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PITBOSS_BIN")
	if dir == "" {
		dir = filepath.Join("..", "bin")
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

// output runs a program to its end and returns what it printed.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", filepath.Base(name), args, err, &stderr)
	}
	return string(out)
}

// agent is `pitboss run ADAPTER` that stays up until the test ends.
type agent struct {
	t           *testing.T
	bin, socket string
}

func run(t *testing.T, adapter string, flags ...string) *agent {
	t.Helper()
	a := &agent{t: t, bin: pitboss(t)}
	cmd := exec.Command(a.bin, append([]string{"run", adapter}, flags...)...)
	// Sockets have short names, so the directory is not the test's own.
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	home := filepath.Join(dir, "home")
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "HOME="+home)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	socket, ok := strings.CutPrefix(strings.TrimSpace(line), "socket: ")
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the agent ended with %v\n%s", err, &stderr)
		}
		if left, err := os.ReadDir(home); err == nil {
			t.Errorf("the example wrote %v into the home directory", left)
		}
	})
	if !ok {
		t.Fatalf("the agent said %q (%v)\n%s", line, err, &stderr)
	}
	a.socket = socket
	return a
}

func (a *agent) call(args ...string) string {
	a.t.Helper()
	return output(a.t, a.bin, append([]string{"--socket", a.socket, "call"}, args...)...)
}

// python prints one expression of the interpreter that runs the example.
func python(t *testing.T, code string) string {
	t.Helper()
	name := os.Getenv("PITBOSS_PYTHON")
	if name == "" {
		name = "python3"
	}
	return strings.TrimSpace(output(t, name, "-c", code))
}

// grepCount is the relation that search_stdlib.py documents.
func grepCount(t *testing.T, word, root string) int {
	t.Helper()
	n := 0
	out := output(t, "grep", "-r", "-a", "-i", "-w", "-F", "-c", "--include=*.py", "--exclude-dir=site-packages", word, root)
	for line := range strings.Lines(out) {
		count, err := strconv.Atoi(strings.TrimSpace(line[strings.LastIndexByte(line, ':')+1:]))
		if err != nil {
			t.Fatal(err)
		}
		n += count
	}
	return n
}

func TestSearchStdlibCountsWhatGrepCounts(t *testing.T) {
	a := run(t, "search_stdlib.py", "--workers", "2")
	db := "db=" + filepath.Join(t.TempDir(), "index.db")
	root := python(t, "import sysconfig; print(sysconfig.get_path('stdlib'))")

	// The items arrive while the tool works, not all at its end.
	cmd := exec.Command(a.bin, "--socket", a.socket, "call", "index", db)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var first, last time.Time
	items, done := 0, struct {
		Files, Lines int
		Done         bool
	}{}
	for s := bufio.NewScanner(stdout); s.Scan(); items++ {
		last = time.Now()
		if items == 0 {
			first = last
		}
		if err := json.Unmarshal(s.Bytes(), &done); err != nil {
			t.Fatalf("%v in %q", err, s.Text())
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if !done.Done || done.Files < 500 || items != done.Files/100+1 {
		t.Fatalf("%d items, the last %+v", items, done)
	}
	if spread := last.Sub(first); spread < 100*time.Millisecond {
		t.Errorf("%d items came within %s: they did not stream", items, spread)
	}

	for _, word := range []string{"import", "weakref", "yield"} {
		ours, want := strings.TrimSpace(a.call("count", "word="+word, db)), grepCount(t, word, root)
		if ours != strconv.Itoa(want) || want == 0 {
			t.Errorf("count of %q is %s, grep counts %d", word, ours, want)
		}
	}
	var found []struct {
		Path string
		Line int
		Text string
	}
	if err := json.Unmarshal([]byte(a.call("search", "query=weakref callback", "limit=3", db)), &found); err != nil {
		t.Fatal(err)
	}
	if len(found) != 3 {
		t.Fatalf("found %+v", found)
	}
	for _, f := range found {
		line := strings.TrimSpace(output(t, "sed", "-n", fmt.Sprintf("%dp", f.Line), f.Path))
		if line != f.Text || !strings.Contains(strings.ToLower(line), "weakref") {
			t.Errorf("%s:%d is %q, search says %q", f.Path, f.Line, line, f.Text)
		}
	}
}

type digest struct {
	Path     string
	SHA256   string
	Size     int
	GzipSize int `json:"gzip_size"`
}

func TestHashTreeSaysWhatSha256sumAndGzipSay(t *testing.T) {
	a := run(t, "hash_tree.py")
	root := t.TempDir()
	content := map[string][]byte{"empty": {}, "a b": []byte("text\n"), "deep/er/random": make([]byte, 300_000), "deep/zero": make([]byte, 1_000_000)}
	for i := range content["deep/er/random"] {
		content["deep/er/random"][i] = byte(rand.Uint32())
	}
	for name, bytes := range content {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var paths []string
	for line := range strings.Lines(a.call("tree", "root="+root)) {
		var d, alone digest
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, d.Path)
		if sum, _, _ := strings.Cut(output(t, "sha256sum", d.Path), " "); sum != d.SHA256 {
			t.Errorf("%s: sha256 %s, sha256sum says %s", d.Path, d.SHA256, sum)
		}
		if err := json.Unmarshal([]byte(a.call("digest", "path="+d.Path)), &alone); err != nil || alone != d {
			t.Errorf("digest says %+v (%v), tree %+v", alone, err, d)
		}
		checkGzip(t, a, d)
	}
	want := strings.Split(strings.TrimSpace(output(t, "find", root, "-type", "f")), "\n")
	sort.Strings(want)
	sort.Strings(paths)
	if strings.Join(paths, "\n") != strings.Join(want, "\n") || len(paths) != len(content) {
		t.Errorf("tree has %q, find has %q", paths, want)
	}
}

// checkGzip lets gzip read what compress wrote: the sizes that it lists, and the content that comes out.
func checkGzip(t *testing.T, a *agent, d digest) {
	t.Helper()
	packed := filepath.Join(t.TempDir(), "packed.gz")
	a.call("compress", "path="+d.Path, "--out", packed)
	listed := strings.Fields(output(t, "gzip", "-l", "-q", packed))
	if len(listed) < 2 || listed[0] != strconv.Itoa(d.GzipSize) || listed[1] != strconv.Itoa(d.Size) {
		t.Errorf("%s: gzip -l says %q, digest %+v", d.Path, listed, d)
	}
	original, err := os.ReadFile(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	if output(t, "gzip", "-dc", packed) != string(original) {
		t.Errorf("%s: gzip -dc gives other bytes", d.Path)
	}
}

func TestNearestFindsWhatALinearSearchFinds(t *testing.T) {
	if os.Getenv("PITBOSS_PYTHON") == "" {
		t.Skip("needs numpy: `make test` gives the tests an interpreter that has it")
	}
	python(t, "import numpy") // fails where the development requirements are not installed
	a := run(t, "nearest.py", "--preload", "numpy")
	const rows, columns, k = 5000, 16, 7
	matrix := make([]float32, rows*columns)
	for i := range matrix {
		matrix[i] = rand.Float32()
	}
	query := matrix[1234*columns : 1235*columns]
	dir := t.TempDir()
	write := func(name string, values []float32) string {
		path := filepath.Join(dir, name)
		raw, err := binary.Append(nil, binary.LittleEndian, values)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return "@" + path
	}
	var got struct {
		Rows      []int
		Distances []float64
	}
	text := a.call("nearest", "matrix="+write("m", matrix), "query="+write("q", query), "k="+strconv.Itoa(k))
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, fmt.Sprintf("<%d bytes>", k*columns*4)) {
		t.Errorf("the rows did not come as bytes: %s", text)
	}
	distance := func(row int) float64 {
		sum := 0.0
		for i := range columns {
			d := float64(matrix[row*columns+i]) - float64(query[i])
			sum += d * d
		}
		return math.Sqrt(sum)
	}
	want := make([]int, rows)
	for i := range want {
		want[i] = i
	}
	sort.SliceStable(want, func(i, j int) bool { return distance(want[i]) < distance(want[j]) })
	if len(got.Rows) != k || len(got.Distances) != k || got.Rows[0] != 1234 || got.Distances[0] != 0 {
		t.Fatalf("%+v", got)
	}
	for i, row := range got.Rows {
		if row != want[i] || math.Abs(got.Distances[i]-distance(row)) > 1e-9 {
			t.Errorf("row %d is %d at %g, a linear search finds %d at %g", i, row, got.Distances[i], want[i], distance(want[i]))
		}
	}
	cmd := exec.Command(a.bin, "--socket", a.socket, "call", "nearest", "matrix=abc", "query=abcd")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "BAD_SHAPE") {
		t.Errorf("a bad shape: %v %s", err, out)
	}
}
