//go:build vm

// Package vm proves that run tells the truth: what it starts, what comes back, and what it says of a machine that dies. Root; needs qemu, which it installs.
package vm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// run runs a script in the machine.
func run(t *testing.T, script string, args ...string) (code int, out, stderr string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte("#!/bin/bash\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	flags, rest := args, []string(nil)
	for i, a := range args {
		if a == "--" {
			flags, rest = args[:i], args[i+1:]
		}
	}
	c := exec.Command("./run", append(append(flags, file), rest...)...)
	var o, e bytes.Buffer
	c.Stdout, c.Stderr = &o, &e
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), o.String(), e.String()
}

func TestArgumentsGoInAndOutputAndExitCodeComeBack(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := `printf '[%s]' "$@" "$V" "$(id -un)" "$(cat "$(basename $DIR)/file")" "$(cat /srv/other)"; echo; head -c 3000000 /dev/zero; echo on stderr >&2; exit 41`
	code, out, stderr := run(t, script, "-p", "User=tester", "-e", "V=a  b", "-e", "DIR="+dir, "-c", dir, "-c", filepath.Join(dir, "file")+"=/srv/other", "--", "x y", "q'\"z", "")
	if code != 41 {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	if want := `[x y][q'"z][][a  b][tester][content][content]` + "\n" + strings.Repeat("\x00", 3000000) + "on stderr\n"; out != want {
		t.Errorf("%d bytes of output, want %d: %.200q", len(out), len(want), out)
	}
}

// TestEachRunIsAMachineOfItsOwn, and a service that a signal ended is no success.
func TestEachRunIsAMachineOfItsOwn(t *testing.T) {
	for range 2 {
		code, out, stderr := run(t, `test ! -e /var/mark && test ! -e /payload/mark && echo fresh | tee /var/mark /payload/mark && sync && kill -KILL $$`)
		if code != 255 || out != "fresh\n" {
			t.Fatalf("exit code %d, %q, %s", code, out, stderr)
		}
	}
}

func TestAMachineThatDiesIsNoSuccess(t *testing.T) {
	code, out, stderr := run(t, `echo c > /proc/sysrq-trigger; echo after`)
	if code != 125 || out != "" || strings.Count(stderr, "panic - not syncing: sysrq") != 1 { // once: what has started is not repeated
		t.Errorf("exit code %d, output %q, %s", code, out, stderr)
	}
}

// TestALostBootIsDoneAgain, because nothing of the file has run, and the console of the lost one is shown.
func TestALostBootIsDoneAgain(t *testing.T) {
	emulator, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	shim := fmt.Sprintf("#!/bin/sh\ntest -e %[1]s/lost || { : > %[1]s/lost; exit 0; }\nexec %[2]s \"$@\"\n", dir, emulator)
	if err := os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte(shim), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	code, out, stderr := run(t, `echo once; exit 3`)
	if code != 3 || out != "once\n" || !strings.Contains(stderr, "boot 1") {
		t.Errorf("exit code %d, output %q, %s", code, out, stderr)
	}
}

func TestTimeIsBounded(t *testing.T) {
	start := time.Now()
	code, _, stderr := run(t, `sleep 1000`, "-t", "5")
	if took := time.Since(start); code != 124 || took > time.Minute || !strings.Contains(stderr, "without an exit code") {
		t.Errorf("exit code %d after %s, %s", code, took, stderr)
	}
}

// TestTheMachineEndsWithItsRun, also with one that could clean nothing up: it would compute on for nobody.
func TestTheMachineEndsWithItsRun(t *testing.T) {
	dir := t.TempDir() // the machine's command line names files in it
	file := filepath.Join(dir, "script")
	if err := os.WriteFile(file, []byte("#!/bin/bash\necho up; sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("./run", file)
	c.Env = append(os.Environ(), "TMPDIR="+dir)
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 3)
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "up\n" {
		_ = c.Wait()
		t.Fatalf("%q %v\n%s", line, err, said.String())
	}
	if n := naming(t, dir); n == 0 { // the control
		t.Fatal("no machine is seen")
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	for deadline := time.Now().Add(time.Minute); naming(t, dir) != 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the machine runs on")
		}
	}
}

// naming counts the processes of this host whose command line names the directory.
func naming(t *testing.T, dir string) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && bytes.Contains(text, []byte(dir)) {
			n++
		}
	}
	return n
}
