package main

import (
	"os"
	"testing"
)

// TestStopReturnsWhenAllIsGone, the running call answered; with --no-wait at once.
func TestStopReturnsWhenAllIsGone(t *testing.T) {
	for _, wait := range []bool{true, false} {
		h := newHost(t)
		s := h.serve(onePool)
		nap := h.start(h.command("sh", "-c", "pitboss call nap seconds=1 file=begun > answer"))
		h.awaitFile("begun")
		args := []string{"stop", "--no-wait"}
		if wait {
			args = args[:1]
		}
		h.pitboss(args...).want(t, 0)
		alive := len(h.alive())
		if wait && read(t, h.path("answer")) != "\"rested\"\n" {
			t.Error("the running call was not answered when the stop returned")
		}
		select {
		case <-s.done:
		default:
			if wait && alive > 1 { // the caller may be about to end
				t.Errorf("%d processes are left", alive)
			}
		}
		if !wait && alive < 4 {
			t.Errorf("it did wait: %d processes are left", alive)
		}
		if code := nap.exit(); code != 0 {
			t.Errorf("the call: %d, %s", code, nap.log())
		}
		if code := s.exit(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
}

// TestAnotherPoolsToolIsNamed where the tool is not in the pool that was meant.
func TestAnotherPoolsToolIsNamed(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("other.py"), []byte("import pitboss\n@pitboss.tool\ndef hello() -> str:\n    return 'hello'\n"), 0o644))
	h.serve("pools: [{name: default, adapter: tools.py, workers: 1}, {name: other, adapter: other.py, workers: 1}]\n")
	h.pitboss("call", "hello").want(t, 64, `; pool "other" has it: other/hello`)
	h.pitboss("call", "other/hello").want(t, 0)
}

// TestADeliberateErrorHasNoTraceback on the terminal: it has its own words.
func TestADeliberateErrorHasNoTraceback(t *testing.T) {
	h := newHost(t)
	h.extend("@pitboss.tool\ndef refuse() -> None:\n    raise pitboss.ToolError('not today')\n")
	e := h.pitboss("run", "tools.py", "refuse")
	e.want(t, 1, "not today", "!Traceback")
}
