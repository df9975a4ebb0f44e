package pitboss_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// byNumber are the places that signal a process by its number, and why nobody else can have the number there. Everything else
// signals by pidfd: PidfdSendSignal, and os.Process since Go 1.23.
var byNumber = map[string]string{
	"agent/children_linux.go:kill":                     "children of the agent, which only its sweep reaps, after this and under the same lock",
	"watchdog/sweep_linux.go:kill":                     "children of one thread, which reaps nobody between the listing and the kill",
	"watchdog/spawn_linux.go:start":                    "the child that was just cloned; nobody has waited for it",
	"cmd/agent/doctor_python.go:runBounded":            "the group of a child that is reaped by the Wait below",
	"watchdog/sweep_linux.go:killBelow":                "children of an agent that has had KILL and cannot die: none of its threads reaps any more",
	"agent/chaos/faults_limits.go:noMemory":            "the group of a child that is reaped by the receive behind it",
	"agent/chaos/lesser_files_linux.go:superviseOpens": "a child that is reaped when the process is about to exit",
	"agent/bench/scale.go:deathsOfMany":                "workers of the bench's own tree, which nothing but the bench ends",
	"agent/bench/tree.go:kill":                         "the bench's own agent, which nothing but this kill ends; its watchdog has not reaped it",
	"agent/bench/life.go:eofAlone":                     "keepers and agent of the bench's own tree, which nothing but the bench ends",
}

// numbered are the calls that take a number: whoever has it now is hit.
var numbered = map[string]bool{"unix.Kill": true, "syscall.Kill": true, "unix.Tgkill": true, "os.FindProcess": true, "syscall.SYS_KILL": true, "unix.SYS_KILL": true, "unix.SYS_TGKILL": true, "unix.SYS_TKILL": true}

// TestNothingIsSignalledByANumberThatMayBeReused: a new place has to give its reason above, and a reason whose place has gone goes too.
func TestNothingIsSignalledByANumberThatMayBeReused(t *testing.T) {
	seen := map[string]bool{}
	for _, root := range []string{"agent", "cmd", "heartbeat", "ipc", "packaging", "python", "watchdog"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "packaging/test/") {
				return err
			}
			for _, place := range killsByNumber(t, path, nil) {
				seen[place] = true
				if byNumber[place] == "" {
					t.Errorf("%s signals by number: use a pidfd, or prove in byNumber that the number cannot be another process's", place)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for place := range byNumber {
		if !seen[place] {
			t.Errorf("%s does not signal by number any more", place)
		}
	}
}

// TestTheSearchForKillsSeesThem is the instrument's control.
func TestTheSearchForKillsSeesThem(t *testing.T) {
	const source = `package p
func direct() { _ = unix.Kill(1, 2) }
func stored() { f := syscall.Kill; f(1, 2) }
func (x *T) raw() { unix.Syscall(unix.SYS_KILL, 1, 2, 0) }
func found() { p, _ := os.FindProcess(1); p.Kill() }
func handle() { unix.PidfdSendSignal(1, 2, nil, 0) }
`
	if got := strings.Join(killsByNumber(t, "p.go", source), " "); got != "p.go:direct p.go:stored p.go:raw p.go:found" {
		t.Errorf("it sees %q", got)
	}
}

// killsByNumber names the functions of a file that mention such a call.
func killsByNumber(t *testing.T, path string, source any) (places []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, source, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		name := "a declaration"
		if f, ok := d.(*ast.FuncDecl); ok {
			name = f.Name.Name
		}
		ast.Inspect(d, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && numbered[x.Name+"."+s.Sel.Name] {
				places = append(places, filepath.ToSlash(path)+":"+name)
			}
			return true
		})
	}
	return places
}
