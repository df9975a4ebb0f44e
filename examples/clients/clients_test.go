// Package clients_test runs the example clients of three languages beside a real agent, each with its own stock gRPC.
package clients_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// said is what every client prints.
const said = `health: SERVING
add: 42
reverse: cba
count: 0
count: 1
count: 2
refuse: TOOL_RAISED, tool's reason DISK_FULL, may have run true, data {"free":0}, retry true after 1s
`

// root is the repository.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// run ends a program well or the test; its standard output is returned.
func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	var stderr bytes.Buffer
	c.Dir, c.Stderr, c.Env = dir, &stderr, append(os.Environ(), env...)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, &stderr)
	}
	return string(out)
}

// pitboss is the built binary.
func pitboss(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("PITBOSS_BIN")
	if bin == "" {
		bin = filepath.Join(root(t), "bin")
	}
	path := filepath.Join(bin, "pitboss")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; run `make build` first", err)
	}
	return path
}

// shortDir is an empty directory for runtime files: a socket's path is short.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// beside runs a program as the sidecar of an agent of its own.
func beside(t *testing.T, command ...string) string {
	t.Helper()
	args := append([]string{"run", filepath.Join(root(t), "examples/clients/tools.py"), "--"}, command...)
	return run(t, root(t), []string{"XDG_RUNTIME_DIR=" + shortDir(t)}, pitboss(t), args...)
}

// python is the interpreter with the development packages: the workers' own is another matter.
func python(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("PITBOSS_PYTHON"); path != "" {
		return path
	}
	return filepath.Join(root(t), ".venv/bin/python")
}

// stubs are generated from proto/ by Python's own compiler.
func stubs(t *testing.T) (env string) {
	t.Helper()
	dir := t.TempDir()
	run(t, root(t), nil, python(t), "-m", "grpc_tools.protoc", "-I", "proto", "--python_out="+dir, "--grpc_python_out="+dir,
		"proto/pitboss/v1/pool.proto", "proto/pitboss/v1/admin.proto")
	return "PYTHONPATH=" + dir
}

func check(t *testing.T, got string) {
	t.Helper()
	if got != said {
		t.Errorf("the client printed\n%s\nwant\n%s", got, said)
	}
}

func TestGoClient(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "client")
	run(t, root(t), nil, "go", "build", "-o", binary, "./examples/clients/go")
	check(t, beside(t, binary))
}

// PYTHONPATH is the client's alone: the adapter must find the agent's own pitboss package, not the stubs.
func TestPythonClient(t *testing.T) {
	env := stubs(t)
	check(t, beside(t, "env", env, python(t), "examples/clients/python/client.py"))
}

func TestNodeClient(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"package.json", "client.js"} {
		text, err := os.ReadFile(filepath.Join("node", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, dir, nil, "npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--silent")
	check(t, beside(t, "node", filepath.Join(dir, "client.js"), filepath.Join(root(t), "proto")))
}

// TestStockPythonReadsTheLargestErrors: the transport of a stranger's client takes whatever an error may hold.
func TestStockPythonReadsTheLargestErrors(t *testing.T) {
	args := []string{"run", filepath.Join(root(t), "examples/clients/testdata/largest_error.py"), "--",
		"env", stubs(t), python(t), "examples/clients/testdata/read_largest_error.py"}
	if out := run(t, root(t), []string{"XDG_RUNTIME_DIR=" + shortDir(t)}, pitboss(t), args...); out != "9 errors\n" {
		t.Errorf("%s", out)
	}
}

// TestStockPython: unary, stream, error details, health with its watch, and reflection, as a stranger's client sees them. The last
// thing that it does is to stop the agent.
func TestStockPython(t *testing.T) {
	env := stubs(t)
	dir := shortDir(t)
	socket := filepath.Join(dir, "s")
	agent := exec.CommandContext(t.Context(), pitboss(t), "run", "--socket", socket, "examples/clients/tools.py")
	var log bytes.Buffer
	agent.Dir, agent.Stderr, agent.Env = root(t), &log, append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	run(t, root(t), nil, pitboss(t), "--socket", socket, "wait")
	if out := run(t, root(t), []string{env, "PITBOSS_SOCKET=" + socket}, python(t), "examples/clients/testdata/stock.py"); out != "6 checks\n" {
		t.Errorf("%s", out)
	}
	if err := agent.Wait(); err != nil {
		t.Errorf("%v: %s", err, &log)
	}
}
