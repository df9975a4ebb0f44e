package agent

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestDeadlockEndsAtItsDeadline(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	if err := a.WaitReady(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	req := request("deadlock", `{}`)
	req.Timeout = time.Second
	if e := callFails(t, a, req, CallTimeout); e.PostMortem == nil || !strings.Contains(e.Traceback, "in deadlock") {
		t.Errorf("%+v", e)
	}
	serves(t, a, 2*time.Second)
}

func TestAGoneClientEndsItsCall(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	if err := a.WaitReady(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 300*time.Millisecond)
	_, err := a.Call(ctx, request("deadlock", `{}`))
	var e *Error
	if !errors.As(err, &e) || e.Reason != CallCancelled {
		t.Fatal(err)
	}
	serves(t, a, 2*time.Second)
}
