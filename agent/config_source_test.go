package agent

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every variable of the prefix that the tree speaks of is one of ours or sets a key.
func TestEveryVariableOfTheTreeIsKnown(t *testing.T) {
	l := newLoading()
	pool := DefaultPool()
	for _, name := range []string{"default", "gpu-a"} {
		pool.Name = name
		l.cfg.Pools = append(l.cfg.Pools, pool)
	}
	targets := l.targets()
	word := regexp.MustCompile(`PITBOSS_[A-Z][A-Z0-9_]*[A-Z0-9]`)
	found := map[string]bool{}
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		base := filepath.Base(name)
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != ".." && (base == ".venv" || base == ".build" || base == ".git" || base == "testdata" || base == "bin"):
			return filepath.SkipDir
		case d.IsDir() || strings.HasPrefix(base, "config_") || strings.HasPrefix(base, "log") /* fields of the journal */ || !slices.Contains([]string{".go", ".py", ".sh", ".md", ""}, filepath.Ext(base)) || !d.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, variable := range word.FindAllString(string(text), -1) {
			found[variable] = true
			if !isOwn(variable) && !isJournalField(variable) && len(targets[variable]) == 0 && variable != "PITBOSS_TEST" && variable != "PITBOSS_LISTEN" && variable != "PITBOSS_SERVICE" {
				t.Errorf("%s: %s is neither a key nor the program's own", name, variable)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for variable := range ownVariables {
		if !found[variable] && !strings.Contains(variable, "*") {
			t.Errorf("%s is listed and nothing in the tree speaks of it", variable)
		}
	}
	if !found["PITBOSS_SOCKET"] || isOwn("PITBOSS_SOKCET") {
		t.Error("the control fails")
	}
}

// isJournalField says whether a name of the prefix is that of a field in the journal: those of the events, and of lines.
func isJournalField(name string) bool {
	fields := map[string]string{}
	for _, key := range []string{"event", "call", "stream"} {
		addField(fields, "", slog.String(key, ""))
	}
	for _, k := range eventKinds {
		for _, f := range k.fields {
			addField(fields, "", slog.String(f.name, ""))
		}
	}
	_, is := fields[name]
	return is
}

// LoadAll is the only reader of the environment for settings: the files that do it are these.
func TestNobodyElseReadsOverrides(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil || len(names) == 0 {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && strings.HasPrefix(lit.Value, `"PITBOSS_`) {
				seen++
				if variable := strings.Trim(lit.Value, `"=`); name != "config_environ.go" && name != "log.go" && name != "events_catalog.go" && !isOwn(variable) && variable != "PITBOSS_LISTEN_" {
					t.Errorf("%s reads %s", name, variable)
				}
			}
			return true
		})
	}
	if seen < 5 {
		t.Errorf("the walk found %d names", seen)
	}
}
