package agent

import (
	"testing"
)

func TestWorkerMachineOverAllPairs(t *testing.T) {
	for _, s := range workerStates {
		row, known := workerMachine[s]
		if !known {
			t.Errorf("state %q has no row", s)
		}
		if s != stateGone && (row[eventExited] != stateGone || row[eventKill] == "") {
			t.Errorf("state %q has no way out", s)
		}
		for _, ev := range workerEvents {
			next, err := s.next(ev)
			want, legal := row[ev]
			if legal && (err != nil || next != want) || !legal && (err == nil || next != s) {
				t.Errorf("%q + %q: %q %v", s, ev, next, err)
			}
		}
	}
}
