package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/client"
)

const failingTools = `
import pitboss

@pitboss.tool
def disk(retryable: bool):
    raise pitboss.ToolError("the disk is full", reason="DISK_FULL", data={"free": 0}, retryable=retryable)

@pitboss.tool
def impostor(file: str):
    open(file, "w").close()
    raise pitboss.ToolError("not what it seems", reason="BAD_ARGUMENTS")

@pitboss.tool
def attaches(size: int, words: int):
    raise pitboss.ToolError("é%" * words, reason="LONG", data="x" * (size - 2))

@pitboss.tool
def renamed():
    error = pitboss.ToolError("renamed", reason="FIRST")
    error.reason = "not a reason"
    raise error
`

// TestAToolsOwnReason: it reaches every reader beside TOOL_RAISED, with its data, and can never be taken for one of the agent.
func TestAToolsOwnReason(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("failing.py"), []byte(failingTools), 0o644))
	h.serve(strings.Replace(onePool, "tools.py", "failing.py", 1))
	h.pitboss("call", "disk", "retryable=true").want(t, 1, "!in disk", `TOOL_RAISED: tool "disk" raised pitboss.ToolError: the disk is full`,
		`  the tool's reason is DISK_FULL, its data {"free":0}; the same call may succeed after 1s`)
	h.pitboss("call", "disk", "retryable=false").want(t, 1, `  the tool's reason is DISK_FULL, its data {"free":0}`, "!may succeed")
	h.pitboss("call", "renamed").want(t, 1, "raised pitboss.ToolError: renamed", "!the tool's reason")

	c, err := client.Dial(t.Context(), h.path("pitboss/agent.sock"))
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	fails := func(tool string, in any) *client.Error {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := client.Call[any](ctx, c, tool, in)
		var e *client.Error
		if !errors.As(err, &e) || e.Reason != client.ToolRaised || !e.MayHaveRun || e.Type != "pitboss.ToolError" || !strings.Contains(e.Traceback, "in "+tool) {
			t.Fatalf("%s: %+v", tool, err)
		}
		return e
	}
	e := fails("disk", map[string]any{"retryable": true})
	if retry, after := client.Retryable(e); e.ToolReason != "DISK_FULL" || string(e.Data) != `{"free":0}` || !retry || after != time.Second {
		t.Errorf("%+v", e)
	}
	if e := fails("impostor", map[string]any{"file": h.path("effect")}); e.ToolReason != "BAD_ARGUMENTS" || len(e.Data) > 0 {
		t.Errorf("%+v", e)
	}
	h.awaitFile("effect")
	explainsOwnReason(t, h, e.Call)
}

// explainsOwnReason reads the outcome of a call to disk as people and as programs do.
func explainsOwnReason(t *testing.T, h *host, call uint64) {
	t.Helper()
	id := strconv.FormatUint(call, 10)
	if e := h.pitboss("explain", id); e.code != 0 || !strings.Contains(e.stdout, "\n        the tool's reason is DISK_FULL, its data {\"free\":0}\n") {
		t.Errorf("%+v", e)
	}
	var o agent.Outcome
	if e := h.pitboss("explain", id, "--json"); json.Unmarshal([]byte(e.stdout), &o) != nil || o.Reason != "TOOL_RAISED" || o.ToolReason != "DISK_FULL" || len(o.Data) == 0 {
		t.Errorf("%+v", e)
	}
}

// TestTheDataOfAToolErrorIsBounded: 4 KiB arrive whole with a long message that takes three bytes each on the wire, one more is left
// out and the message says so, and explain keeps the size of what it does not keep.
func TestTheDataOfAToolErrorIsBounded(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("failing.py"), []byte(failingTools), 0o644))
	h.serve(strings.Replace(onePool, "tools.py", "failing.py", 1))
	c, err := client.Dial(t.Context(), h.path("pitboss/agent.sock"))
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	const bound = 4 << 10
	for _, words := range []int{1, 5000} {
		for _, size := range []int{1 << 10, bound, bound + 1} {
			t.Run(fmt.Sprintf("%d bytes, %d words", size, words), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				_, err := client.Call[any](ctx, c, "attaches", map[string]any{"size": size, "words": words})
				var e *client.Error
				if !errors.As(err, &e) || e.Reason != client.ToolRaised || e.ToolReason != "LONG" || !strings.Contains(e.Message, "é%") || !strings.Contains(e.Traceback, "é%") {
					t.Fatalf("%v", err)
				}
				var o agent.Outcome
				if x := h.pitboss("explain", strconv.FormatUint(e.Call, 10), "--json"); json.Unmarshal([]byte(x.stdout), &o) != nil || o.ToolReason != "LONG" {
					t.Fatalf("%+v", x)
				}
				said := fmt.Sprintf("(its data of %d bytes is over %d and left out)", size, bound)
				switch {
				case size > bound && (len(e.Data) > 0 || !strings.HasSuffix(e.Message, said) || o.DataBytes != 0 || len(o.Data) > 0):
					t.Errorf("%+v %+v", e, o)
				case size == bound && (len(e.Data) != size || o.DataBytes != size || len(o.Data) > 0):
					t.Errorf("%d bytes arrived, %d are told", len(e.Data), o.DataBytes)
				case size < bound && (len(e.Data) != size || len(o.Data) != size):
					t.Errorf("%d bytes arrived, %d are kept", len(e.Data), len(o.Data))
				}
			})
		}
	}
}
