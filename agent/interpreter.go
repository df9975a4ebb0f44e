package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// interpreter is the Python that a pool runs on, and the rule that chose it (printed at start).
type interpreter struct{ path, from string }

// findInterpreter applies the order: the pool's `python`, $PITBOSS_PYTHON, $VIRTUAL_ENV, ./.venv (of the pool's working
// directory), the venv that pitboss itself is installed in (the wheel's), python3 on the path.
func findInterpreter(configured, workdir string, getenv func(string) string) (interpreter, error) {
	choices := []interpreter{
		{configured, "python:"},
		{getenv("PITBOSS_PYTHON"), "$PITBOSS_PYTHON"},
	}
	if venv := getenv("VIRTUAL_ENV"); venv != "" {
		choices = append(choices, interpreter{filepath.Join(venv, "bin", "python"), "$VIRTUAL_ENV"})
	}
	for _, c := range choices {
		if c.path == "" {
			continue
		}
		path, err := exec.LookPath(c.path)
		if err != nil {
			return interpreter{}, fmt.Errorf("cannot find the interpreter %q (from %s): %w; name an existing Python 3.9 or later", c.path, c.from, err)
		}
		return absolute(interpreter{path, c.from})
	}
	local := filepath.Join(workdir, ".venv", "bin", "python")
	if info, err := os.Stat(local); err == nil && info.Mode()&0o111 != 0 {
		return absolute(interpreter{local, "./.venv"})
	}
	if own := ownVenv(); own != "" {
		return absolute(interpreter{own, "the venv of pitboss itself"})
	}
	path, err := exec.LookPath("python3")
	if err != nil {
		return interpreter{}, fmt.Errorf("cannot find an interpreter: no `python:`, $PITBOSS_PYTHON, $VIRTUAL_ENV or ./.venv, and no python3 on the path; install Python 3.9 or later, or name one with --python")
	}
	return absolute(interpreter{path, "python3 on the path"})
}

// ownVenv is the interpreter beside this program if they share a venv (PEP 405: pyvenv.cfg is one directory up); empty otherwise.
func ownVenv() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	bin := filepath.Dir(self)
	python := filepath.Join(bin, "python")
	_, noVenv := os.Stat(filepath.Join(bin, "..", "pyvenv.cfg"))
	if info, err := os.Stat(python); noVenv != nil || err != nil || info.Mode()&0o111 == 0 {
		return ""
	}
	return python
}

// absolute makes the path independent of the working directory; it does not follow symbolic links, because a venv is
// found by the link's own place.
func absolute(i interpreter) (interpreter, error) {
	path, err := filepath.Abs(i.path)
	if err != nil {
		return interpreter{}, fmt.Errorf("cannot make %q absolute: %w", i.path, err)
	}
	return interpreter{path, i.from}, nil
}
