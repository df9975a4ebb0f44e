package agent

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// A follower that stands still while more happens than it may be behind is told how many it missed, where they are missing:
// between what it got, and at the end.
func TestASlowFollowerIsToldWhatItLost(t *testing.T) {
	for name, after := range map[string]int{"between": 1, "at the end": 0} {
		t.Run(name, func(t *testing.T) {
			const early, more = 3, feedDepth + 312
			a := &Agent{events: newFeed[event](10, 0, nil), log: discard()}
			for range early {
				a.emit(workerReady, slog.Int("pid", 1))
			}
			stands, goOn, caughtUp := make(chan struct{}), make(chan struct{}), make(chan struct{})
			got, story, last := 0, []string{}, uint64(0)
			ended := make(chan error, 1)
			go func() {
				ended <- a.WatchEvents(context.Background(), true, "worker.", func(e Event) error {
					switch {
					case e.Lost > 0:
						story = append(story, fmt.Sprintf("%d, lost %d", got, e.Lost))
						last += e.Lost
						return nil
					case e.Seq != last+1:
						t.Errorf("event %d follows %d", e.Seq, last)
					}
					got, last = got+1, e.Seq
					if got == 1 {
						close(stands)
						<-goOn
					}
					if got == early+feedDepth {
						close(caughtUp)
					}
					return nil
				})
			}()
			<-stands
			for range more {
				a.emit(workerReady, slog.Int("pid", 1))
			}
			close(goOn)
			<-caughtUp
			for range after {
				a.emit(workerReady, slog.Int("pid", 2))
			}
			a.events.close()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf("%d, lost 312", early+feedDepth); len(story) != 1 || story[0] != want || got != early+feedDepth+after {
				t.Errorf("%q, want %q; %d events", story, want, got)
			}
		})
	}
}

func TestAPrefixThatNoEventHasIsRefusedWithNearNames(t *testing.T) {
	a := &Agent{events: newFeed[event](10, 0, nil), log: discard()}
	for _, known := range []string{"", "w", "worker.", "pool.state", "pool.launcher."} {
		if err := a.WatchEvents(context.Background(), false, known, nil); err != nil {
			t.Errorf("%q: %v", known, err)
		}
	}
	for prefix, near := range map[string]string{"wroker.": `did you mean "worker."?`, "pool.stat.": `did you mean "pool.state"?`, "nothing.like.it": "events begin with agent. cleanup."} {
		err := a.WatchEvents(context.Background(), false, prefix, nil)
		if e := wantReason(t, err, BadArguments); !strings.Contains(e.Message, near) {
			t.Errorf("%q: %s", prefix, e.Message)
		}
	}
}
