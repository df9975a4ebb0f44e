package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

//go:embed new_adapter.py.txt
var newAdapter string

//go:embed new_test.py.txt
var newAdapterTest string

// moduleName is what both Python and a shell take without quotes.
var moduleName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// takenNames are names that an adapter cannot have: Python's keywords, our own package, and modules that its test needs.
var takenNames = map[string]string{"pitboss": "is the package that the adapter imports", "test": "is a package of Python itself"}

func init() {
	for _, word := range strings.Fields("and as assert async await break class continue def del elif else except finally for from global if import in is lambda nonlocal not or pass raise return try while with yield") {
		takenNames[word] = "is a keyword of Python"
	}
	for _, word := range strings.Fields("unittest pathlib shutil subprocess sys os io re typing types inspect json abc ast asyncio ctypes enum signal socket struct threading time random logging") {
		takenNames[word] = "is a module of Python itself"
	}
}

func newNewCommand(g *global) *cobra.Command {
	var dir string
	c := &cobra.Command{Use: "new NAME", Short: "write an adapter and a test for it that passes",
		Long: `NAME.py is an adapter with two tools, and test_NAME.py a test that needs nothing but Python. The two commands that try them
are printed. Nothing is ever overwritten.`,
		Example: "  pitboss new greeter\n  pitboss new greeter --dir src",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error { return writeAdapter(g, args[0], dir) }}
	c.Flags().StringVar(&dir, "dir", ".", "write into `DIR`, which must exist")
	_ = c.MarkFlagDirname("dir")
	return c
}

// newAdapterFiles is what `new --json` prints.
type newAdapterFiles struct {
	Files []string `json:"files"`
	Next  []string `json:"next"`
}

func writeAdapter(g *global, name, dir string) error {
	if err := checkModuleName(name); err != nil {
		return err
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fail(exitUsage, "make the directory first, or name another with --dir", "cannot write into %q: it is no directory", dir)
	}
	adapter, test := filepath.Join(dir, name+".py"), filepath.Join(dir, "test_"+name+".py")
	for _, file := range []string{adapter, test} { // before the first is written: both or none
		if _, err := os.Lstat(file); err == nil {
			return fail(exitFailed, "choose another name, or remove it", "cannot write %q: it exists", file)
		}
	}
	for _, file := range []struct{ name, text string }{{adapter, newAdapter}, {test, newAdapterTest}} {
		if err := writeNew(file.name, strings.ReplaceAll(file.text, "NAME", name)); err != nil {
			return err
		}
	}
	next := []string{
		"python3 -m unittest discover -s " + shellWord(dir) + " -p test_" + name + ".py",
		"pitboss run " + shellWord(adapter) + " hello who=world",
	}
	if g.json {
		return printJSON(g.stdout, newAdapterFiles{[]string{adapter, test}, next})
	}
	_, err := fmt.Fprintf(g.stdout, "wrote %s and %s; next:\n  %s\n  %s\n", adapter, test, next[0], next[1])
	return err
}

func checkModuleName(name string) error {
	if why, taken := takenNames[name]; taken {
		return fail(exitUsage, fmt.Sprintf("try %q", "my_"+name), "cannot name an adapter %q: it %s", name, why)
	}
	if moduleName.MatchString(name) {
		return nil
	}
	next := "use letters a-z, digits and _, and begin with a letter"
	better := regexp.MustCompile(`[^a-z0-9_]+`).ReplaceAllString(strings.ToLower(strings.TrimSuffix(filepath.Base(name), ".py")), "_")
	if better = strings.Trim(better, "_"); better != "" && better[0] <= '9' {
		better = "tools_" + better
	}
	if _, taken := takenNames[better]; moduleName.MatchString(better) && !taken {
		next = fmt.Sprintf("try %q; %s", better, next)
		if strings.Contains(name, "/") {
			next = fmt.Sprintf("try `pitboss new %s --dir %s`; %s", better, shellWord(filepath.Dir(name)), next)
		}
	}
	return fail(exitUsage, next, "cannot name an adapter %q: Python could not import it", name)
}

// writeNew creates a file; it fails rather than touch one that is there, a dangling link included.
func writeNew(name, text string) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	switch {
	case errors.Is(err, fs.ErrExist):
		return fail(exitFailed, "choose another name, or remove it", "cannot write %q: it exists", name)
	case errors.Is(err, fs.ErrPermission):
		return fail(exitPermission, "name another directory with --dir", "cannot write: %w", err)
	case err != nil:
		return fail(exitFailed, "", "cannot write: %w", err)
	}
	_, err = file.WriteString(text)
	if err = errors.Join(err, file.Close()); err != nil {
		return fail(exitFailed, "", "cannot write: %w", err)
	}
	return nil
}

// shellWord quotes a word for a shell where it must be.
func shellWord(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+,:@%", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
