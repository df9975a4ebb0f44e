package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// bare is a host without any configuration: no runtime directory, no interpreter named.
func (h *host) bare() {
	var env []string
	for _, entry := range h.env {
		if !strings.HasPrefix(entry, "XDG_RUNTIME_DIR=") && !strings.HasPrefix(entry, "PITBOSS_PYTHON=") {
			env = append(env, entry)
		}
	}
	h.env = append(env, "TMPDIR="+h.dir)
}

// TestOneCallWithNothingConfigured gives what sha256sum gives, as root and as a user without a home.
func TestOneCallWithNothingConfigured(t *testing.T) {
	example, err := filepath.Abs("../../examples/hash_tree.py")
	must(t, err)
	source, err := os.ReadFile(example)
	must(t, err)
	for name, uid := range map[string]uint32{"root": 0, "nobody": 65534} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.bare()
			must(t, os.WriteFile(h.path("hash_tree.py"), source, 0o644))
			must(t, os.Chmod(h.dir, 0o777))
			c := h.command("pitboss", "run", "hash_tree.py", "digest", "path=tools.py")
			if uid != 0 {
				c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
				c.Env = append(c.Env, "HOME=/nonexistent", "PATH=/usr/bin:/bin") // a user's own Python may be out of reach
			}
			e := h.finish(c)
			e.want(t, 0)
			sum, err := exec.Command("sha256sum", h.path("tools.py")).Output()
			must(t, err)
			var got struct{ Sha256 string }
			if json.Unmarshal([]byte(e.stdout), &got) != nil || len(got.Sha256) != 64 || !strings.HasPrefix(string(sum), got.Sha256) {
				t.Errorf("%s and sha256sum %s", e.stdout, sum)
			}
		})
	}
}

func TestASidecarEndsWithItsCommand(t *testing.T) {
	h := newHost(t)
	run := func(script string) ended {
		return h.pitboss("run", "--kill-grace", "300ms", "tools.py", "--", "sh", "-c", script)
	}
	e := run(`pitboss call add a=20 b=22; test -n "$PITBOSS_SOCKET"; test -z "$PITBOSS_GUARD_FD$PITBOSS_LOCK_FD"; exit $?`)
	e.want(t, 0)
	if e.stdout != "42\n" {
		t.Errorf("stdout %q, stderr %s", e.stdout, e.stderr)
	}
	run("exit 7").want(t, 7)
	run("kill -9 $$").want(t, 128+9)
	run(`sleep 600 & setsid sleep 600 & exit 0`).want(t, 0) // what it leaves goes with it: nobodyIsLeft
	h.pitboss("run", "tools.py", "--", "no-such-program").want(t, 64, `cannot start "no-such-program"`, "name a program after --")
	h.pitboss("run", "tools.py", "--").want(t, 64, "after -- goes a program")

	s := h.start(h.command("pitboss", "run", "--kill-grace", "300ms", "tools.py", "--", "sh", "-c", "trap 'exit 9' TERM; touch up; while :; do sleep 0.05; done"))
	h.awaitFile("up")
	must(t, s.cmd.Process.Signal(syscall.SIGTERM))
	if code := s.exit(); code != 9 {
		t.Errorf("exit code %d after TERM: %s", code, s.log())
	}
}

// TestARunOwnsOnlyWhatItMade: a directory that the user names keeps its files.
func TestARunOwnsOnlyWhatItMade(t *testing.T) {
	h := newHost(t)
	must(t, os.Mkdir(h.path("mine"), 0o700))
	must(t, os.WriteFile(h.path("mine/precious"), []byte("x"), 0o600))
	for _, args := range [][]string{{}, {"--watchdog", "off"}} {
		for _, dir := range []string{"mine", h.path("mine")} {
			line := append([]string{"run", "--runtime-dir", dir}, args...)
			h.pitboss(append(line, "tools.py", "add", "a=1", "b=2")...).want(t, 0)
			if _, err := os.Stat(h.path("mine/precious")); err != nil {
				t.Fatalf("%v: %v", line, err)
			}
		}
	}
	left, err := os.ReadDir(h.path("pitboss"))
	must(t, err)
	for _, entry := range left {
		if !strings.HasPrefix(entry.Name(), "python-") {
			t.Errorf("%q is left in the runtime directory", entry.Name())
		}
	}
	if _, err := os.Stat(h.path("tools.py")); err != nil {
		t.Error(err)
	}
}

func TestABaseOfSomebodyElseIsRefused(t *testing.T) {
	h := newHost(t)
	h.bare()
	must(t, os.Chmod(h.dir, 0o777))
	base := h.path("pitboss-65534")
	must(t, os.Mkdir(base, 0o777))
	must(t, os.Chown(base, 12345, 12345))
	for _, args := range [][]string{{"run", "tools.py", "add", "a=1", "b=2"}, {"call", "add"}} {
		c := h.command("pitboss", args...)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		c.Env = append(c.Env, "PATH=/usr/bin:/bin")
		h.finish(c).want(t, 77, base, "it must be a directory of ours")
	}
}

// TestFlagsReachThePrivateAgent wherever they stand.
func TestFlagsReachThePrivateAgent(t *testing.T) {
	h := newHost(t)
	for _, line := range []string{
		"--instance run run --preload json,sqlite3 tools.py add a=1 b=2",
		"run tools.py --workers 2 --start exec add a=1 b=2",
		"--json run --kill-grace=200ms tools.py add {\"a\":1,\"b\":2}",
	} {
		e := h.pitboss(strings.Fields(line)...)
		e.want(t, 0)
		if e.stdout != "3\n" {
			t.Errorf("%s: %q", line, e.stdout)
		}
	}
}

// TestAnotherPitbossInTheVenv: one that is only installed loses to the agent's own half; one that a .pth file imports is named.
func TestAnotherPitbossInTheVenv(t *testing.T) {
	h := newHost(t)
	venv := exec.Command("python3", "-m", "venv", "--without-pip", h.path("venv"))
	if out, err := venv.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	sites, err := filepath.Glob(h.path("venv/lib/python3*/site-packages"))
	if err != nil || len(sites) != 1 {
		t.Fatalf("%v %v", sites, err)
	}
	must(t, os.Mkdir(filepath.Join(sites[0], "pitboss"), 0o755))
	must(t, os.WriteFile(filepath.Join(sites[0], "pitboss", "__init__.py"), []byte("__version__ = '0.0.9'\n"), 0o644))
	line := []string{"run", "--python", "venv/bin/python", "tools.py", "add", "a=1", "b=2"}
	h.pitboss(line...).want(t, 0)
	must(t, os.WriteFile(filepath.Join(sites[0], "x.pth"), []byte("import pitboss\n"), 0o644))
	h.pitboss(line...).want(t, 69, "site-packages/pitboss/__init__.py was imported at start-up (by a .pth file?)")
}

// TestInstalledByGo: the binaries that `go install ./cmd/...` makes are named after their directories and find each other.
func TestInstalledByGo(t *testing.T) {
	h := newHost(t)
	install := exec.Command("go", "install", "../...")
	install.Env = append(os.Environ(), "GOBIN="+h.dir, "CGO_ENABLED=0")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := h.command(h.path("agent"), "run", "tools.py", "add", "a=1", "b=2")
	if e := h.finish(c); e.code != 0 || e.stdout != "3\n" {
		t.Errorf("%+v", e)
	}
	if info, err := os.Stat(h.path("watchdog")); err != nil || info.Mode()&0o111 == 0 {
		t.Error(err)
	}
}
