package agent

import (
	"testing"
	"time"
)

func TestAFloodOfOutputIsDroppedAndCounted(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	if _, err := a.Call(within(t, 30*time.Second), request("flood", `{"seconds":1.0}`)); err != nil {
		t.Fatal(err)
	}
	if w := a.Status().Pools[0].Workers[0]; w.LinesDropped == 0 {
		t.Errorf("no line was dropped: %+v", w)
	}
	serves(t, a, time.Second)
}
