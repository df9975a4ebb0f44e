package agent

import (
	"context"
	"testing"
)

// worker.started names the process for ever, and the settings that it runs with.
func TestAStartedWorkerIsNamedByItsStartTimeAndItsSettings(t *testing.T) {
	a := startTestAgent(t, testTools, two)
	waitReady(t, a)
	hashes, seen := map[string]bool{}, 0
	err := a.WatchEvents(context.Background(), false, "worker.started", func(e Event) error {
		fields := map[string]any{}
		for _, f := range e.Fields {
			fields[f.Key] = f.Value.Any()
		}
		pid, _ := fields["pid"].(int64)
		if start, alive := startTime(int(pid)); !alive || fields["start_ticks"] != int64(start) {
			t.Errorf("%v, but process %d began at %d", fields, pid, start)
		}
		hash, _ := fields["config_hash"].(string)
		hashes[hash] = true
		seen++
		return nil
	})
	if err != nil || seen != 2 || len(hashes) != 1 || hashes[a.allPools()[0].cfg().hash()] != true {
		t.Errorf("%d workers with the settings %v, %v", seen, hashes, err)
	}
	before := *a.allPools()[0].cfg()
	more, other := before, before
	more.Workers, other.Env = 7, map[string]string{"A": "1"}
	if before.hash() != more.hash() || before.hash() == other.hash() || len(before.hash()) != 12 {
		t.Errorf("%s, with more workers %s, with another environment %s", before.hash(), more.hash(), other.hash())
	}
}
