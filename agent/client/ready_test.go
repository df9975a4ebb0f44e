package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/client"
)

// serveAt starts a real `pitboss run` on the socket; kill ends its agent the hard way and waits for the end of all.
func serveAt(t *testing.T, socket, adapter string) (cmd *exec.Cmd, kill func()) {
	t.Helper()
	cmd = exec.Command(os.Getenv("PITBOSS_BINARY"), "run", "--socket", socket, "--kill-grace=200ms", "--workers=1", adapter)
	cmd.Dir = filepath.Dir(socket)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+cmd.Dir)
	cmd.Stderr = io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	return cmd, func() {
		c, err := client.Dial(t.Context(), socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := syscall.Kill(agentPID(t, c), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-ended
	}
}

// agentPID asks the agent itself.
func agentPID(t *testing.T, c *client.Client) int {
	t.Helper()
	text, err := c.Status(within(t, patience))
	var st agent.Status
	if err != nil || json.Unmarshal(text, &st) != nil {
		t.Fatalf("%s %v", text, err)
	}
	return st.Agent.PID
}

// TestTheSameClientServesAfterARestart: the agent is killed, another starts on the same socket.
func TestTheSameClientServesAfterARestart(t *testing.T) {
	dir := shortDir(t)
	socket := filepath.Join(dir, "s")
	c, err := client.New(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	add := func() (int, error) {
		return client.Call[int](within(t, patience), c, "add", map[string]any{"a": 1, "b": 2})
	}
	absent := func() {
		t.Helper()
		_, err := add()
		var e *client.Error
		if !errors.As(err, &e) || e.Reason != client.Unreachable || e.MayHaveRun {
			t.Errorf("a call to nobody: %+v", err)
		}
		if retry, after := client.Retryable(err); !retry || after <= 0 {
			t.Errorf("a call that was never sent is not retryable: %v", err)
		}
	}
	absent()
	first := 0
	for range 3 {
		_, kill := serveAt(t, socket, "tools.py")
		if err := c.WaitReady(within(t, patience), "default"); err != nil {
			t.Fatal(err)
		}
		if pid := agentPID(t, c); pid == first {
			t.Errorf("the agent %d is the one before", pid)
		} else {
			first = pid
		}
		if sum, err := add(); sum != 3 || err != nil {
			t.Errorf("%d %v", sum, err)
		}
		// A call in the middle of it may have run, and says so.
		begun := newMark(t, filepath.Join(dir, "begun"))
		ended := make(chan error, 1)
		go func() {
			_, err := client.Call[any](within(t, patience), c, "nap", map[string]any{"seconds": 600, "file": begun.path})
			ended <- err
		}()
		if err := begun.wait(); err != nil {
			t.Fatal(err)
		}
		kill()
		_ = os.Remove(begun.path)
		err := <-ended
		var e *client.Error
		if !errors.As(err, &e) || e.Reason != client.Unreachable || !e.MayHaveRun {
			t.Errorf("a call whose agent died: %+v", err)
		}
		if retry, _ := client.Retryable(err); retry {
			t.Error("a call that may have run is retryable")
		}
		if retry, _ := client.RetryableIfIdempotent(err); !retry {
			t.Error("an idempotent call whose agent died is not retryable")
		}
		absent()
	}
}

func TestWaitReady(t *testing.T) {
	dir := shortDir(t)
	socket := filepath.Join(dir, "s")
	c, err := client.New(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err = c.WaitReady(soon, "")
	var late *client.NotReadyError
	if !errors.As(err, &late) || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, client.Unreachable) {
		t.Errorf("nobody: %v", err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- c.WaitReady(within(t, patience), "") }()
	serveAt(t, socket, "tools.py")
	if err := <-waiting; err != nil {
		t.Errorf("a wait from before the start: %v", err)
	}
	if err := c.WaitReady(within(t, patience), "elsewhere"); !errors.Is(err, client.UnknownPool) {
		t.Errorf("an unknown pool: %v", err)
	}
	if serving, err := c.Serving(within(t, patience), "default"); !serving || err != nil {
		t.Errorf("%t %v", serving, err)
	}
}

// TestWaitReadyEndsWithItsContext even if the other end accepts and never speaks.
func TestWaitReadyEndsWithItsContext(t *testing.T) {
	socket := filepath.Join(shortDir(t), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := client.Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.WaitReady(soon, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestAStreamIsAnIterator(t *testing.T) {
	c := dial(t)
	ctx := within(t, patience)
	type row struct{ I int }
	next := 0
	for item, err := range client.Stream[row](ctx, c, "count", map[string]any{"n": 300}) {
		if err != nil || item.I != next {
			t.Fatalf("item %d is %+v: %v", next, item, err)
		}
		next++
	}
	if next != 300 {
		t.Errorf("%d items", next)
	}
	for item, err := range client.Stream[row](ctx, c, "count", map[string]any{"n": 100000000}) {
		if err != nil {
			t.Fatal(err)
		}
		if item.I == 5 { // leaving the loop ends the call: the only worker serves the next one
			break
		}
	}
	if kind, err := client.Call[string](ctx, c, "kind", map[string]any{"value": 1}); kind != "int" || err != nil {
		t.Errorf("%q %v", kind, err)
	}
	failures := 0
	for _, err := range client.Stream[row](ctx, c, "nothing", nil) {
		if failures++; !errors.Is(err, client.UnknownTool) {
			t.Errorf("%v", err)
		}
	}
	for _, err := range client.Stream[string](ctx, c, "count", map[string]any{"n": 1}) {
		if failures++; err == nil || !strings.Contains(err.Error(), `cannot decode an item of "count"`) {
			t.Errorf("%v", err)
		}
	}
	if failures != 2 {
		t.Errorf("%d failures were yielded, want one each", failures)
	}
}

// TestRetryableSaysWhatIsSafe for every reason, with and without the chance that user code ran.
func TestRetryableSaysWhatIsSafe(t *testing.T) {
	hint := 7 * time.Second
	for reason, want := range map[client.Reason]struct{ unrun, run, idempotent bool }{
		client.BadArguments: {}, client.UnknownTool: {}, client.UnknownPool: {}, client.UnknownWorker: {}, client.PayloadTooLarge: {},
		client.CallCancelled: {}, client.PermissionDenied: {}, client.Internal: {}, client.ToolRaised: {},
		client.QueueFull: {true, true, true}, client.QueueTimeout: {true, true, true}, client.PoolFailed: {true, true, true}, client.Draining: {true, true, true},
		client.CallTimeout: {true, false, true}, client.WorkerDied: {true, false, true}, client.Unreachable: {true, false, true},
	} {
		for name, c := range map[string]struct {
			ask  func(error) (bool, time.Duration)
			run  bool
			want bool
		}{"never ran": {client.Retryable, false, want.unrun}, "may have run": {client.Retryable, true, want.run}, "idempotent": {client.RetryableIfIdempotent, true, want.idempotent}} {
			retry, after := c.ask(&client.Error{Reason: reason, MayHaveRun: c.run})
			if retry != c.want || (retry && after <= 0) || (!retry && after != 0) {
				t.Errorf("%s, %s: %t after %s", reason, name, retry, after)
			}
			if retry, after := c.ask(&client.Error{Reason: reason, MayHaveRun: c.run, RetryAfter: hint}); retry && after != hint {
				t.Errorf("%s, %s: the hint is lost: %s", reason, name, after)
			}
		}
	}
	if retry, _ := client.Retryable(nil); retry {
		t.Error("success is retryable")
	}
	if retry, _ := client.Retryable(errors.New("other")); retry {
		t.Error("a foreign error is retryable")
	}
	// What a real tool says travels as RetryInfo.
	c := dial(t)
	for _, says := range []bool{true, false} {
		_, err := client.Call[any](within(t, patience), c, "fails", map[string]any{"retryable": says})
		if retry, after := client.Retryable(err); !errors.Is(err, client.ToolRaised) || retry != says || (says && after <= 0) {
			t.Errorf("retryable=%t: %t after %s: %v", says, retry, after, err)
		}
	}
}

// TestErrorsOfThisSide are errors.Is of their causes.
func TestErrorsOfThisSide(t *testing.T) {
	c := dial(t)
	ctx, cancel := context.WithCancel(within(t, patience))
	begun := newMark(t, filepath.Join(t.TempDir(), "begun"))
	go func() {
		defer cancel()
		if err := begun.wait(); err != nil {
			t.Error(err)
		}
	}()
	_, err := client.Call[any](ctx, c, "touch", map[string]any{"file": begun.path})
	var e *client.Error
	if !errors.As(err, &e) || e.Reason != client.CallCancelled || !errors.Is(err, context.Canceled) || !e.MayHaveRun {
		t.Errorf("%+v", err)
	}
}
