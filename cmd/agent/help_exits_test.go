package main

import (
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// undocumented says that a command ended with a code that its help does not name. Codes of a program behind -- are its own.
func undocumented(args []string, code int) bool {
	root := newRoot(&global{stdout: io.Discard, stderr: io.Discard})
	root.InitDefaultHelpCmd()
	c, rest, err := root.Find(args)
	if err != nil || strings.HasPrefix(c.Name(), "__") {
		return false
	}
	if c.Name() == "run" {
		for _, word := range rest {
			if word == "--" {
				return false
			}
		}
	}
	_, documented := commandExits[c.CommandPath()][code]
	return !documented
}

// documentedExit looks at the end of every pitboss that a test of this package runs. A signal's end is no exit code.
func documentedExit(t *testing.T, path string, args []string, code int, signaled bool) {
	t.Helper()
	if filepath.Base(path) == "pitboss" && !signaled && undocumented(args, code) {
		t.Errorf("`pitboss %s` ended with %d, which its help does not name", strings.Join(args, " "), code)
	}
}

// TestTheWatchOverExitCodesSees is the positive control.
func TestTheWatchOverExitCodesSees(t *testing.T) {
	for _, c := range []struct {
		line string
		code int
		want bool
	}{
		{"status", 69, false}, {"status", 78, true}, {"--json status", 1, false}, {"config check x", 78, false}, {"config check x", 69, true},
		{"run tools.py -- sh", 77, false}, {"run tools.py -- sh", 42, false}, {"run tools.py", 42, true}, {"--socket s wait", 65, true}, {"rnu", 64, false},
	} {
		if undocumented(strings.Fields(c.line), c.code) != c.want {
			t.Errorf("%s with %d is undocumented: %t", c.line, c.code, !c.want)
		}
	}
}
