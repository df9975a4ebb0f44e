package main

import (
	"strings"
	"testing"
	"time"
)

// TestADoctorsMemoryHasABound: of what a program writes without end, the last is kept.
func TestADoctorsMemoryHasABound(t *testing.T) {
	stdout, stderr, err := runBounded(patience, t.TempDir(), "/bin/sh", "-c", "seq 100000; seq 100000 >&2; echo end; echo END >&2")
	must(t, err)
	for text, last := range map[string]string{stdout: "\n100000\nend\n", stderr: "\n100000\nEND\n"} {
		if len(text) != childOutput || !strings.HasSuffix(text, last) {
			t.Errorf("%d bytes are kept, want %d: … %q", len(text), childOutput, text[max(0, len(text)-40):])
		}
	}
}

// TestAProgramsOutputIsNotWaitedForWithoutEnd: what it has left behind, in a group of its own, holds the pipe.
func TestAProgramsOutputIsNotWaitedForWithoutEnd(t *testing.T) {
	h := newHost(t)
	leaver := h.script("leaver", `setsid sh -c 'echo $$ > left; exec sleep 600' & while ! [ -s left ]; do :; done; echo said`)
	begun := time.Now()
	stdout, _, err := runBounded(patience, h.dir, leaver)
	if err != nil || stdout != "said\n" || time.Since(begun) > patience {
		t.Errorf("%q %v after %s", stdout, err, time.Since(begun))
	}
	must(t, h.command("sh", "-c", "kill -KILL $(cat left)").Run())
}
