package main

import (
	"os"
	"strings"
	"testing"
)

// TestNewWritesAnAdapterWhoseNextCommandsWork runs exactly what `new` prints.
func TestNewWritesAnAdapterWhoseNextCommandsWork(t *testing.T) {
	for name, args := range map[string][]string{"here": {"new", "greeter"}, "elsewhere": {"new", "greeter", "--dir", "my tools"}} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			must(t, os.Mkdir(h.path("my tools"), 0o755))
			e := h.pitboss(args...)
			e.want(t, 0)
			lines := strings.Split(strings.TrimSpace(e.stdout), "\n")
			if len(lines) != 3 || !strings.HasPrefix(lines[0], "wrote ") {
				t.Fatalf("%q", e.stdout)
			}
			test := h.finish(h.command("sh", "-c", lines[1]))
			test.want(t, 0, "Ran 3 tests", "OK")
			if run := h.finish(h.command("sh", "-c", lines[2])); run.code != 0 || run.stdout != "\"Hello, world.\"\n" {
				t.Errorf("%s: %+v", lines[2], run)
			}
		})
	}
}

// TestTheNewTestCanFail is the control: an adapter that is broken fails its test.
func TestTheNewTestCanFail(t *testing.T) {
	h := newHost(t)
	h.pitboss("new", "greeter").want(t, 0)
	broken := strings.Replace(read(t, h.path("greeter.py")), "Hello, ", "Good-bye, ", 1)
	must(t, os.WriteFile(h.path("greeter.py"), []byte(broken), 0o644))
	h.finish(h.command("python3", "-m", "unittest", "discover", "-s", ".", "-p", "test_greeter.py")).want(t, 1, "FAILED (failures=1)")
}

func TestNewOverwritesNothing(t *testing.T) {
	for _, there := range []string{"greeter.py", "test_greeter.py"} {
		h := newHost(t)
		must(t, os.WriteFile(h.path(there), []byte("mine"), 0o644))
		h.pitboss("new", "greeter").want(t, 1, "cannot write \""+there+"\": it exists", "choose another name")
		if text := read(t, h.path(there)); text != "mine" {
			t.Errorf("%s is now %q", there, text)
		}
		files, _ := os.ReadDir(h.dir)
		if len(files) != 2 { // tools.py and that one
			t.Errorf("after a refusal there are %v", files)
		}
	}
	h := newHost(t)
	must(t, os.Symlink(h.path("nowhere"), h.path("greeter.py")))
	h.pitboss("new", "greeter").want(t, 1, "it exists")
}

func TestNewRefusesBadNamesWithAHint(t *testing.T) {
	h := newHost(t)
	for name, hint := range map[string]string{
		"My-Tools": `try "my_tools"`, "tools.py": `try "tools"`, "3d": `try "tools_3d"`, "class": `try "my_class"`, "json": "is a module of Python itself",
		"pitboss": "is the package that the adapter imports", "src/greeter": "try `pitboss new greeter --dir src`", "": "use letters a-z", "ü": "use letters a-z",
	} {
		h.pitboss("new", name).want(t, 64, "cannot name an adapter", hint)
	}
	h.pitboss("new").want(t, 64, "usage: pitboss new NAME")
	h.pitboss("new", "greeter", "--dir", "nowhere").want(t, 64, `cannot write into "nowhere": it is no directory`, "--dir")
	files, _ := os.ReadDir(h.dir)
	if len(files) != 1 {
		t.Errorf("refused, and there are %v", files)
	}
	if e := h.pitboss("new", "greeter", "--json"); !strings.Contains(e.stdout, `"next": [`) || e.code != 0 {
		t.Errorf("%+v", e)
	}
}
