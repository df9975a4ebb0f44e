//go:build package

package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const adapter = `
import os, sys, pitboss

@pitboss.tool
def add(a: int, b: int) -> int:
    return a + b

@pitboss.tool
def where() -> list:
    return [sys.prefix, os.environ["HOME"]]
`

// venv is a fresh virtual environment, and commands of it run with an empty home and nothing of pitboss in their environment.
type venv struct{ dir, home string }

func newVenv(t *testing.T) *venv {
	t.Helper()
	v := &venv{filepath.Join(t.TempDir(), "venv"), t.TempDir()}
	run(t, "python3", "-m", "venv", v.dir)
	return v
}

func (v *venv) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(v.dir, "bin", name), args...)
	c.Dir = v.home
	c.Env = []string{"HOME=" + v.home, "PATH=" + filepath.Join(v.dir, "bin") + ":/usr/bin:/bin"}
	return c
}

func (v *venv) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := v.command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// TestTheWheelWorksInAFreshVenv: pip installs it, both programs are there, a call is answered by the venv's interpreter, and pip
// takes everything away again.
func TestTheWheelWorksInAFreshVenv(t *testing.T) {
	v := newVenv(t)
	v.run(t, "pip", "install", "--no-index", "--quiet", built(t, "pitboss-*x86_64.whl"))
	v.run(t, "pip", "check")
	if err := os.WriteFile(filepath.Join(v.home, "adapter.py"), []byte(adapter), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := v.command("pitboss", "run", "adapter.py", "add", "a=1", "b=2").Output()
	if err != nil || string(out) != "3\n" {
		t.Errorf("%v %q", err, out)
	}
	byPath := v.command("pitboss", "run", "adapter.py", "where") // nobody has activated the venv
	byPath.Env = []string{"HOME=" + v.home, "PATH=/usr/bin:/bin"}
	out, err = byPath.Output()
	if err != nil || !strings.Contains(string(out), v.dir) || !strings.Contains(string(out), v.home) {
		t.Errorf("%v %q", err, out)
	}
	package_ := v.run(t, "python", "-c", "import pitboss; print(pitboss.__version__)")
	if command := v.run(t, "pitboss", "version"); !strings.HasPrefix(command, "pitboss "+strings.TrimSpace(package_)) {
		t.Errorf("the package is %q, the command %q", package_, command)
	}
	v.run(t, "pip", "uninstall", "--yes", "pitboss")
	left, err := filepath.Glob(filepath.Join(v.dir, "bin", "pitboss*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left: %q %v", left, err)
	}
	if _, err := v.command("python", "-c", "import pitboss").CombinedOutput(); err == nil {
		t.Error("the package is still there")
	}
}

// TestWheels are whole (RECORD names every file with its hash), fit to be published, of their architecture, and root's tools run.
func TestWheels(t *testing.T) {
	python := os.Getenv("WHEEL_PYTHON")
	for arch, names := range architectures {
		wheel := built(t, "pitboss-*"+names[2]+".whl")
		name := filepath.Base(wheel)
		if want := "-py3-none-manylinux_2_17_" + names[2] + ".musllinux_1_1_" + names[2] + ".whl"; !strings.HasSuffix(name, want) {
			t.Errorf("%s: want …%s", name, want)
		}
		if out := run(t, python, "-m", "twine", "check", "--strict", wheel); !strings.Contains(out, "PASSED") {
			t.Error(out)
		}
		dir := t.TempDir()
		run(t, python, "-m", "wheel", "unpack", "--dest", dir, wheel) // checks every hash of RECORD
		roots, err := filepath.Glob(filepath.Join(dir, "pitboss-*"))
		if err != nil || len(roots) != 1 {
			t.Fatalf("%q %v", roots, err)
		}
		scripts, err := filepath.Glob(filepath.Join(roots[0], "pitboss-*.data/scripts/*"))
		if err != nil || len(scripts) != 2 {
			t.Fatalf("%q %v", scripts, err)
		}
		for _, script := range scripts {
			checkBinary(t, script, arch)
		}
		sources, err := filepath.Glob("../python/src/pitboss/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, source := range sources {
			if filepath.Base(source) != "__pycache__" && readFile(t, source) != readFile(t, roots[0], "pitboss", filepath.Base(source)) {
				t.Errorf("%s is not the tree's", source)
			}
		}
	}
}

// TestADamagedWheelIsRefused is the control of the hashes.
func TestADamagedWheelIsRefused(t *testing.T) {
	dir := t.TempDir()
	damaged := filepath.Join(dir, filepath.Base(built(t, "pitboss-*x86_64.whl")))
	run(t, os.Getenv("WHEEL_PYTHON"), "-c", `import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as old, zipfile.ZipFile(sys.argv[2], "w") as new:
    for item in old.infolist():
        new.writestr(item, old.read(item) + (b"#" if item.filename == "pitboss/__init__.py" else b""))`, built(t, "pitboss-*x86_64.whl"), damaged)
	if out, err := exec.Command(os.Getenv("WHEEL_PYTHON"), "-m", "wheel", "unpack", "--dest", dir, damaged).CombinedOutput(); err == nil || !strings.Contains(string(out), "__init__.py") {
		t.Errorf("%v %s", err, out)
	}
}
