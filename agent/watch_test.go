package agent

import (
	"testing"
	"time"
)

// TestTurnsShareAWakeUp: no turn comes early, none more than a grid late, and those of one span come at once.
func TestTurnsShareAWakeUp(t *testing.T) {
	times := map[time.Duration]bool{}
	for due := time.Duration(0); due <= 2*time.Second; due += 7 * time.Millisecond {
		at := shared(due)
		if at < due || at-due >= beatGrid {
			t.Errorf("a turn due at %s comes at %s", due, at)
		}
		times[at] = true
	}
	if most := int(2*time.Second/beatGrid) + 1; len(times) > most {
		t.Errorf("turns of two seconds wake the agent %d times; at most %d", len(times), most)
	}
}
