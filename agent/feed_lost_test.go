package agent

import (
	"context"
	"log/slog"
	"testing"
)

// TestASlowWatcherHearsWhatItLost, once, and all of it, also what was lost among events that are not for it.
func TestASlowWatcherHearsWhatItLost(t *testing.T) {
	a := &Agent{log: slog.New(slog.DiscardHandler), events: newFeed[event](keptEvents, 0, nil)}
	a.emit(workerReady, slog.String("pool", "first"))
	const more = 3 * feedDepth
	var got, lost []uint64
	err := a.WatchEvents(context.Background(), true, "worker.", func(e Event) error {
		switch {
		case e.Seq == 1: // meanwhile the others happen; by turns one is for us
			for i := range more {
				kind := workerReady
				if i%2 == 0 {
					kind = poolScaled
				}
				a.emit(kind)
			}
		case e.Seq == 1+feedDepth: // the last that had room; the queue is empty
			a.emit(poolScaled)
			a.emit(workerReady)
			a.events.close()
		}
		got, lost = append(got, e.Seq), append(lost, e.Lost)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range lost[:len(lost)-1] {
		if n != 0 {
			t.Errorf("%d were lost before event %d", n, got[i])
		}
	}
	if len(got) != 1+feedDepth/2+1 || lost[len(lost)-1] != more-feedDepth || got[len(got)-1] != 1+more+2 {
		t.Errorf("%d events, the last %d, %d lost before it", len(got), got[len(got)-1], lost[len(lost)-1])
	}
}

// TestASlowReaderOfLinesHearsTheSame.
func TestASlowReaderOfLinesHearsTheSame(t *testing.T) {
	a := &Agent{lines: newFeed(keptOutput, keptOutputBytes, outputLine.size)}
	none := []*pool{}
	a.pools.Store(&none)
	a.lines.publish(outputLine{text: "first"})
	var last Line
	count := 0
	err := a.WatchLogs(context.Background(), "", "", true, func(l Line) error {
		switch count++; count {
		case 1:
			for range feedDepth + 7 {
				a.lines.publish(outputLine{text: "more"})
			}
		case 1 + feedDepth:
			a.lines.publish(outputLine{text: "last"})
			a.lines.close()
		}
		last = l
		return nil
	})
	if err != nil || last.Text != "last" || last.Lost != 7 {
		t.Errorf("%v: %+v", err, last)
	}
}

// TestAnUnknownPrefixIsRefused by the agent, which knows what there is.
func TestAnUnknownPrefixIsRefused(t *testing.T) {
	a := &Agent{events: newFeed[event](keptEvents, 0, nil)}
	err := a.WatchEvents(context.Background(), false, "wroker.", func(Event) error { return nil })
	if e, ok := err.(*Error); !ok || e.Reason != BadArguments || e.Message != `no event's name begins with "wroker."; events begin with admin. agent. cleanup. heartbeat. keeper. log. pool. watchdog. worker.` {
		t.Errorf("%v", err)
	}
}
