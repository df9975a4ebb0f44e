package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

//go:embed doctor_probe.py
var doctorProbe string

// childOutput bounds what is kept of a child that floods.
const childOutput = 64 << 10

// probed is what doctor_probe.py says of an interpreter.
type probed struct {
	Version        string   `json:"version"`
	Implementation string   `json:"implementation"`
	Executable     string   `json:"executable"`
	Other          string   `json:"other"`
	OtherVersion   string   `json:"other_version"`
	Package        string   `json:"package"`
	PackageVersion string   `json:"package_version"`
	Tools          []string `json:"tools"`
	Error          string   `json:"error"`
	Traceback      string   `json:"traceback"`
}

// checkPythons looks at the interpreter of each pool, once per interpreter, and imports each adapter.
func checkPythons(patients []patient, f doctorFlags) (findings []finding) {
	library, err := agent.ExtractLibrary(runtimeBase())
	if err != nil {
		return []finding{bad("package", "remove that directory, or make room for it", "%v", err)}
	}
	seen := map[string]bool{}
	for _, p := range patients {
		if f.python != "" {
			p.python = f.python
		}
		path, from, err := agent.FindPython(p.python, p.workdir, os.Getenv)
		if err != nil {
			findings = append(findings, bad("python", "install Python 3.9 or later, or name one with --python", "%v", err))
			continue
		}
		usable := true
		if !seen[path] {
			seen[path] = true
			var found []finding
			found, usable = checkInterpreter(path, from, library, f.timeout)
			findings = append(findings, found...)
		}
		if usable && p.adapter != "" {
			findings = append(findings, checkAdapter(p, path, library, f.timeout))
		}
	}
	return findings
}

func checkInterpreter(path, from, library string, timeout time.Duration) (findings []finding, usable bool) {
	said, output, err := probe(timeout, "/", path, library)
	if err != nil {
		f := bad("python", "name a working Python 3.9 or later with --python or $PITBOSS_PYTHON", "%s (from %s) does not run: %v", path, from, err)
		f.Output = output
		return []finding{f}, false
	}
	var major, minor int
	_, _ = fmt.Sscanf(said.Version, "%d.%d", &major, &minor)
	switch {
	case major < 3 || (major == 3 && minor < 9):
		return []finding{bad("python", "name a Python 3.9 or later with --python or $PITBOSS_PYTHON", "%s (from %s) is Python %s: too old", path, from, said.Version)}, false
	case said.Implementation != "cpython":
		findings = append(findings, warn("python", "use CPython: no other is tested", "%s (from %s) is %s %s", path, from, said.Implementation, said.Version))
	default:
		findings = append(findings, ok("python", "%s, Python %s (from %s)", path, said.Version, from))
	}
	switch {
	case !strings.HasPrefix(said.Package, library+"/"):
		return append(findings, bad("package", "remove what imports pitboss so early (sitecustomize, a .pth file), or that copy",
			"workers would import %s instead of %s", said.Package, library)), false
	case said.PackageVersion != ipc.Version:
		return append(findings, bad("package", "remove that directory; the next start writes it anew", "%s is %s, this command %s", library, said.PackageVersion, ipc.Version)), false
	case said.Other != "" && said.OtherVersion == ipc.Version:
		return append(findings, ok("package", "pitboss %s, the copy that the agent carries; the same version is installed, %s", said.PackageVersion, said.Other)), true
	case said.Other != "":
		return append(findings, warn("package", "harmless for workers; to have one only, uninstall the other or keep it at "+ipc.Version,
			"another copy is installed, %s; the agent's wins", said.Other)), true
	}
	return append(findings, ok("package", "pitboss %s, the copy that the agent carries; no other is installed", said.PackageVersion)), true
}

// checkAdapter imports one as a worker would, without setup().
func checkAdapter(p patient, python, library string, timeout time.Duration) finding {
	name := p.adapter
	if p.pool != "" {
		name = "pool " + p.pool + ", " + name
	}
	said, output, err := probe(timeout, p.workdir, python, library, p.adapter)
	switch {
	case err != nil:
		f := bad("adapter", "import it by hand: "+shellWord(python)+" -X faulthandler -v "+shellWord(p.adapter), "%s: its import %v", name, err)
		f.Output = output
		return f
	case said.Error != "":
		f := bad("adapter", "mend the adapter, or install what it imports into "+python, "%s: %s", name, said.Error)
		f.Output = said.Traceback
		return f
	}
	return ok("adapter", "%s: %s (%s)", name, counted(len(said.Tools), "tool"), strings.Join(said.Tools, ", "))
}

// tail keeps the last bytes of what is written to it. The buffer is not embedded: io.Copy would find its ReadFrom, which knows
// no bound.
type tail struct{ kept bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	t.kept.Write(p)
	if over := t.kept.Len() - childOutput; over > 0 {
		t.kept.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string { return t.kept.String() }

// probe runs the probe in a process group of its own, which ends with it. The error completes "it …".
func probe(timeout time.Duration, dir, python string, args ...string) (said probed, output string, err error) {
	stdout, stderr, err := runBounded(timeout, dir, python, append([]string{"-c", doctorProbe}, args...)...)
	output = strings.TrimSpace(stderr)
	if err != nil {
		return said, output, err
	}
	line := strings.TrimRight(stdout, "\n")
	line = line[strings.LastIndexByte(line, '\n')+1:]
	if json.Unmarshal([]byte(line), &said) != nil || said.Version == "" {
		return said, output, fmt.Errorf("answered %.80q instead of what was asked", line)
	}
	return said, output, nil
}

// runBounded runs a program for at most timeout and kills its whole group at the end.
func runBounded(timeout time.Duration, dir, program string, args ...string) (stdout, stderr string, err error) {
	var out, errs tail
	c := exec.Command(program, args...)
	c.Dir, c.Stdout, c.Stderr, c.Env = dir, &out, &errs, agent.ScrubEnviron(os.Environ())
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.WaitDelay = time.Second
	if err := c.Start(); err != nil {
		return "", "", err
	}
	died := make(chan struct{})
	go func() { // waits and leaves it a zombie
		defer close(died)
		for unix.Waitid(unix.P_PID, c.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
		}
	}()
	late := false
	select {
	case <-died:
	case <-time.After(timeout):
		late = true
	}
	_ = unix.Kill(-c.Process.Pid, unix.SIGKILL) // Wait reaps it, and nobody else does: until then its number is its group's
	<-died
	err = c.Wait()
	var exit *exec.ExitError
	switch {
	case late:
		err = fmt.Errorf("took more than %s", timeout)
	case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled():
		err = fmt.Errorf("died by signal %d (%s)", exit.Sys().(syscall.WaitStatus).Signal(), exit.Sys().(syscall.WaitStatus).Signal())
	case errors.As(err, &exit):
		err = fmt.Errorf("exited with code %d", exit.ExitCode())
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil // a process that it has left behind holds its output; what it said is there
	}
	return out.String(), errs.String(), err
}
