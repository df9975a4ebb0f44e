package agent

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestAPoolThatNeverStartsFailsWithItsTraceback(t *testing.T) {
	a := startTestAgent(t, "import pitboss\nraise RuntimeError('no model')\n", nil)
	err := a.WaitReady(within(t, 20*time.Second))
	var e *Error
	if !errors.As(err, &e) || e.Reason != PoolFailed || !strings.Contains(e.Traceback, "no model") {
		t.Fatalf("%v", err)
	}
	start := time.Now()
	callFails(t, a, request("add", `{}`), PoolFailed)
	if took := time.Since(start); took > 50*time.Millisecond {
		t.Errorf("the call failed after %s", took)
	}
}
