package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReloadFollowsTheCode from a file that cannot start to one that does, over one that breaks it, to one that imports a changed
// module; calls are answered all the time from the first that works.
func TestReloadFollowsTheCode(t *testing.T) {
	h := newHost(t)
	version := func(text string) string {
		return "import pitboss\n@pitboss.tool\ndef version() -> str:\n    " + text + "\n"
	}
	write := func(name, text string) { // as editors do: a new file takes the old one's name
		must(t, os.WriteFile(h.path(name+".new"), []byte(text), 0o644))
		must(t, os.Rename(h.path(name+".new"), h.path(name)))
	}
	write("code.py", version("return 'broken"))
	c := h.command("pitboss", "run", "--reload", "code.py")
	out, err := os.Create(h.path("out"))
	must(t, err)
	defer out.Close()
	c.Stdout = out
	s := h.start(c)
	said := func(times int, text string) func() bool {
		return func() bool { return strings.Count(s.log(), text) == times }
	}
	h.await("wait for a change", said(1, "[reload] waiting for a change below "+h.dir))
	write("code.py", version("return 'one'"))
	h.await("start", said(1, "[reload] code.py changed: 2 workers with the new code"))
	var socket string
	h.await("its socket", func() bool {
		_, socket, _ = strings.Cut(strings.TrimSpace(read(t, h.path("out"))), "socket: ")
		return socket != ""
	})
	answers := func(want string) {
		t.Helper()
		if e := h.pitboss("--socket", socket, "call", "version"); strings.TrimSpace(e.stdout) != want {
			t.Errorf("%+v, not %s", e, want)
		}
	}
	answers(`"one"`)
	write("code.py", version("return broken("))
	h.await("refuse", said(1, "[reload] code.py changed and cannot be used; what ran before runs on"))
	answers(`"one"`)
	must(t, os.Mkdir(h.path("part"), 0o755))
	write("part/two.py", "text = 'two'\n")
	h.await("see a new directory", said(1, "[reload] part/two.py changed and cannot be used"))
	write("code.py", "from part import two\n"+version("return two.text"))
	h.await("replace", said(2, "[reload] code.py changed: 2 workers with the new code"))
	answers(`"two"`)
	must(t, s.cmd.Process.Signal(os.Interrupt))
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestReloadIsForARunThatStays: one call has nothing to reload.
func TestReloadIsForARunThatStays(t *testing.T) {
	h := newHost(t)
	h.pitboss("run", "--reload", "tools.py", "add", "a=1", "b=2").want(t, 64, "--reload")
}

// TestDebugShowsTheWholeLog of a private agent, which says little else for one call.
func TestDebugShowsTheWholeLog(t *testing.T) {
	h := newHost(t)
	h.pitboss("run", "tools.py", "add", "a=1", "b=2").want(t, 0, "!worker.ready")
	h.pitboss("run", "--debug", "tools.py", "add", "a=1", "b=2").want(t, 0, "worker.ready", "level=DEBUG")
}

// TestTheCodeDirectory of each way to name an adapter.
func TestTheCodeDirectory(t *testing.T) {
	for adapter, want := range map[string]string{
		"/srv/app/tools.py": "/srv/app", "/srv/app/tools.py:Class": "/srv/app", "tools": "/work", "app.tools:Class": "/work", "app.py_tools": "/work",
	} {
		if got := codeDir(adapter, "/work"); got != want {
			t.Errorf("%s: %s", adapter, got)
		}
	}
}

// TestOnlyCodeIsWatched: not what is hidden, cached, or of a virtual environment; several changes are one.
func TestOnlyCodeIsWatched(t *testing.T) {
	dir := t.TempDir()
	write := func(name string) {
		t.Helper()
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
	}
	for _, name := range []string{"venv/pyvenv.cfg", "venv/lib/x.py", ".git/y.py", "__pycache__/z.py", "sub/a.py"} {
		write(name)
	}
	w, err := newCodeWatch(dir)
	must(t, err)
	defer w.close()
	if w.dirs != 2 {
		t.Errorf("%d directories are watched", w.dirs)
	}
	for _, name := range []string{"venv/lib/x.py", ".git/y.py", "__pycache__/z.py", "note.txt", "sub/b.py", "sub/a.py"} {
		write(name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if file, ok := w.next(ctx); !ok || file != filepath.Join(dir, "sub/a.py") {
		t.Errorf("%s %t", file, ok)
	}
	soon, cancel := context.WithTimeout(t.Context(), 3*settleTime)
	defer cancel()
	if file, ok := w.next(soon); ok {
		t.Errorf("%s is a change after all", file)
	}
	if _, err := newCodeWatch(filepath.Join(dir, "nowhere")); err == nil || !strings.Contains(err.Error(), "cannot watch") {
		t.Error(err)
	}
}
