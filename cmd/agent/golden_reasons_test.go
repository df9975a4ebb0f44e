package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
)

// brokenError is a tool that answers with an error frame of which nobody can make sense, as no tool could by itself: the
// agent must call that its own fault, not the caller's.
const brokenError = `
@pitboss.tool
def broken_error():
    import struct
    body = b"no json"
    os.write(3, struct.pack(">BBHIQIHH", 1, 4, 0, len(body), pitboss.context().call_id, 0, 0, 0) + body)
`

// TestGoldenOfReasons brings about every reason for which a call or an order can fail, and its exit code.
func TestGoldenOfReasons(t *testing.T) {
	needRoot(t)
	h := newHost(t)
	h.extend(brokenError)
	must(t, os.Chmod(h.dir, 0o711))
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte("access: {viewers: {users: [nobody]}}\n"+aGoodAndABadPool), 0o644))
	g := h.goldens("reasons")
	s := h.startWithABadPool()
	must(t, os.WriteFile(h.path("big"), make([]byte, 2<<20), 0o644))
	g.run("pitboss call default/add a=1", "pitboss call default/ad a=1", "pitboss call defualt/add", "pitboss ping default-0.9", "pitboss explain 99", "pitboss call default/raises",
		"pitboss call default/size data=@big", "pitboss call default/zeros n=2000000", "pitboss call bad/add")
	for _, line := range []string{"pitboss call default/nap seconds=600 --timeout 300ms", "pitboss call default/exit_three", "pitboss call default/broken_error"} {
		s.awaitOneWorker()
		g.run(line)
	}
	s.awaitOneWorker()
	denied := as(h.command("pitboss", "--socket", h.path("pitboss/agent.sock"), "call", "default/add", "a=1", "b=2"))
	g.record("pitboss --socket <home>/pitboss/agent.sock call default/add a=1 b=2   # as a viewer", h.finish(denied))

	busy, busyEnds := g.begin("pitboss call default/nap seconds=600 file=<home>/begun")
	h.awaitFile("begun")
	_, queuedEnds := g.begin("pitboss call default/add a=1 b=2")
	h.await("queued", func() bool { st, ok := s.status(); return ok && st.Pools[0].Queued == 1 })
	g.run("pitboss call default/size data=x")
	queuedEnds()
	must(t, busy.cmd.Process.Signal(syscall.SIGINT))
	busyEnds()
	s.awaitOneWorker()
	g.run("pitboss explain " + lastCall(t, s, "CLIENT"))

	_, cancelled := g.begin("pitboss call default/nap seconds=600 file=<home>/again")
	h.awaitFile("again")
	h.pitboss("cancel", runningCall(t, h)).want(t, 0)
	cancelled()
	s.awaitOneWorker()
	h.pitboss("drain").want(t, 0)
	g.run("pitboss call default/add a=1 b=2")
	h.pitboss("stop").want(t, 0)
	s.exit()
}

// lastCall is the id of the latest call that ended for a reason.
func lastCall(t *testing.T, s *service, reason string) string {
	t.Helper()
	for id := 99; id > 0; id-- {
		if e := s.pitboss("explain", strconv.Itoa(id)); strings.Contains(e.stdout, "reason  "+reason) {
			return strconv.Itoa(id)
		}
	}
	t.Fatalf("no call ended for %s", reason)
	return ""
}

func runningCall(t *testing.T, h *host) string {
	t.Helper()
	id, _, _ := strings.Cut(strings.TrimPrefix(h.pitboss("calls").stdout, "CALL"), "default/nap")
	fields := strings.Fields(id)
	return fields[len(fields)-1]
}

// recorded is one command of a golden file with its exit code.
type recorded struct {
	line, text string
	code       int
}

// allRecorded is every golden file; the tests above hold each to what the binaries do.
func allRecorded(t *testing.T) (all []recorded) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(goldenDir, "*.txt"))
	must(t, err)
	for _, file := range files {
		for _, block := range goldenBlocks(read(t, file)) {
			first, text, _ := strings.Cut(block, "\n")
			exit := regexp.MustCompile(`\[exit (\d+)\]\n$`).FindStringSubmatch(text)
			if exit == nil {
				t.Fatalf("%s: no exit code in\n%s", file, block)
			}
			code, err := strconv.Atoi(exit[1])
			must(t, err)
			all = append(all, recorded{strings.TrimPrefix(first, "$ "), text, code})
		}
	}
	return all
}

// TestEveryReasonHasAGolden with its exit code. A caller that goes away sees no reason: `explain` tells that one.
func TestEveryReasonHasAGolden(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range allRecorded(t) {
		found := regexp.MustCompile(`(?m)^pitboss: ([A-Z_]+): `).FindStringSubmatch(r.text)
		if found == nil {
			if strings.Contains(r.text, "\nreason  CLIENT: ") {
				seen["CLIENT"] = true
			}
			continue
		}
		seen[found[1]] = true
		if code, known := reasonExit[found[1]]; !known || code != r.code {
			t.Errorf("%s: %s ended with exit code %d, want %d", r.line, found[1], r.code, code)
		}
	}
	for reason := range reasonExit {
		if !seen[reason] {
			t.Errorf("no golden file has a case of %s", reason)
		}
	}
}

// TestEveryExitCodeHasAGolden: each constant of exit.go is how some recorded command ends, and each of those is a constant.
func TestEveryExitCodeHasAGolden(t *testing.T) {
	codes := exitConstants(t)
	if len(codes) < 10 {
		t.Fatalf("only %v were found in exit.go", codes)
	}
	seen := map[int]bool{}
	for _, r := range allRecorded(t) {
		seen[r.code] = true
		if !slices.Contains(codes, r.code) && !strings.Contains(r.line, " -- ") { // a program's code is passed on
			t.Errorf("%s ended with %d, which is no constant of exit.go", r.line, r.code)
		}
	}
	for _, code := range codes {
		if !seen[code] {
			t.Errorf("no golden file has a case of exit code %d", code)
		}
	}
}

func exitConstants(t *testing.T) (codes []int) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "exit.go", nil, 0)
	must(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "exit") && len(spec.Values) == 1 {
			if value, ok := spec.Values[0].(*ast.BasicLit); ok {
				code, err := strconv.Atoi(value.Value)
				must(t, err)
				codes = append(codes, code)
			}
		}
		return true
	})
	return codes
}

// withoutJSON are commands of which no program reads anything: their output is a log, a script or a text.
var withoutJSON = map[string]bool{"agent": true, "completion": true, "help": true}

// TestEveryCommandHasGoldens: each is recorded with success, with --json and with a failure.
func TestEveryCommandHasGoldens(t *testing.T) {
	root := newRoot(&global{})
	type kinds struct{ success, json, failure bool }
	seen := map[string]*kinds{}
	for _, r := range allRecorded(t) {
		words := strings.Fields(r.line)
		for len(words) > 0 && words[0] != "pitboss" {
			words = words[1:]
		}
		c, _, err := root.Find(words[1:])
		if err != nil || c == root {
			continue
		}
		k := seen[c.CommandPath()]
		if k == nil {
			k = &kinds{}
			seen[c.CommandPath()] = k
		}
		k.success = k.success || r.code == 0
		k.failure = k.failure || r.code != 0
		k.json = k.json || (r.code == 0 && slices.Contains(words, "--json"))
	}
	all := leaves(root)
	if len(all) < 25 {
		t.Errorf("only %d commands were found", len(all))
	}
	for _, c := range all {
		k := seen[c.CommandPath()]
		if k == nil {
			t.Errorf("no golden file has a case of `%s`", c.CommandPath())
			continue
		}
		if !k.success || !k.failure || (!k.json && !withoutJSON[c.Name()] && !withoutJSON[c.Parent().Name()]) {
			t.Errorf("`%s` is recorded with success: %t, failure: %t, --json: %t", c.CommandPath(), k.success, k.failure, k.json)
		}
	}
}

// leaves are the commands that do something.
func leaves(c *cobra.Command) (all []*cobra.Command) {
	for _, sub := range c.Commands() {
		all = append(all, leaves(sub)...)
	}
	if c.Runnable() && !c.HasSubCommands() && !c.Hidden {
		all = append(all, c)
	}
	return all
}
