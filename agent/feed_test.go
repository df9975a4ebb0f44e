package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"
)

func numbers(entries []entry[int]) (out []int) {
	for _, e := range entries {
		out = append(out, e.value)
	}
	return out
}

func TestAFeedKeepsTheLastOfEachBound(t *testing.T) {
	f := newFeed[int](3, 0, nil)
	for i := range 10 {
		f.publish(i)
	}
	kept, _ := f.read(false)
	if got := numbers(kept); len(got) != 3 || got[0] != 7 || got[2] != 9 || kept[2].seq != 10 {
		t.Errorf("%v, seq %d", got, kept[2].seq)
	}
	f = newFeed(100, 50, func(n int) int { return n })
	for i := range 20 {
		f.publish(i)
		if f.bytes > 50 {
			t.Errorf("%d bytes are kept", f.bytes)
		}
	}
	if kept, _ := f.read(false); len(kept) != 2 || kept[0].value != 18 {
		t.Errorf("%v", numbers(kept))
	}
	f.publish(1000) // one that is too large alone is kept alone
	if kept, _ := f.read(false); len(kept) != 1 || f.bytes != 1000 {
		t.Errorf("%v, %d bytes", numbers(kept), f.bytes)
	}
}

// Whoever begins to follow while others publish gets each entry once and in order, and one that does not read stops nobody.
func TestFollowersLoseNothingWhileTheyReadAndStopNobodyWhenTheyDoNot(t *testing.T) {
	f := newFeed[int](10_000, 0, nil)
	const all = 5000
	_, idle := f.read(true) // never reads
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			next := uint64(1)
			err := f.each(nil, true, func(e entry[int]) error {
				if e.seq != next {
					t.Errorf("got %d, want %d", e.seq, next)
				}
				next = e.seq + 1
				return nil
			}, func(n uint64) error { t.Errorf("%d are lost", n); return nil })
			if err != nil || next != all+1 {
				t.Errorf("%v, ended before %d", err, next)
			}
		})
	}
	for i := range all {
		f.publish(i)
		for readersBehind(f, idle) {
			time.Sleep(time.Millisecond)
		}
	}
	f.close()
	readers.Wait()
	got := 0
	for range idle.entries {
		got++
	}
	if got != feedDepth || f.lost != all-feedDepth {
		t.Errorf("the idle one got %d and lost %d", got, f.lost)
	}
	if kept, late := f.read(true); len(kept) != all {
		t.Errorf("%d are kept", len(kept))
	} else if _, open := <-late.entries; open {
		t.Error("a closed feed goes on")
	}
}

// readersBehind says whether one that reads could lose an entry.
func readersBehind(f *feed[int], idle *follower[int]) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.follow {
		if s != idle && len(s.entries) > feedDepth/2 {
			return true
		}
	}
	return false
}

func TestAFollowerThatWasTooSlowSeesAGap(t *testing.T) {
	f := newFeed[int](10, 0, nil)
	_, s := f.read(true)
	for i := range feedDepth + 5 {
		f.publish(i)
	}
	for range feedDepth {
		<-s.entries
	}
	f.publish(0)
	if e := <-s.entries; e.seq != feedDepth+6 {
		t.Errorf("seq %d after %d", e.seq, feedDepth)
	}
	f.leave(s)
}

// The line in the log says what the event says.
func TestAnEventAndItsLineAreTheSame(t *testing.T) {
	var out bytes.Buffer
	a := &Agent{events: newFeed[event](10, 0, nil), log: slog.New(slog.NewJSONHandler(&out, nil))}
	a.emit(workerExited, slog.String("worker", `a "b"`), slog.Int("pid", 7), slog.String("end", "line\nline"), seconds("uptime_s", 1500*time.Millisecond))
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err := a.WatchEvents(context.Background(), false, "worker.", func(e Event) error {
		seen++
		text, err := e.FieldsJSON()
		if err != nil {
			return err
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(text), &fields); err != nil {
			return err
		}
		if line["event"] != e.Name || len(fields) != 4 {
			t.Errorf("%v and %v", line, fields)
		}
		for key, value := range fields {
			if line[key] != value {
				t.Errorf("%s: the line says %v, the event %v", key, line[key], value)
			}
		}
		return nil
	})
	if err != nil || seen != 1 {
		t.Errorf("%d events, %v", seen, err)
	}
}

func BenchmarkEmit(b *testing.B) {
	for name, level := range map[string]slog.Level{"logged": slog.LevelInfo, "not logged": slog.LevelError} {
		b.Run(name, func(b *testing.B) {
			a := &Agent{events: newFeed[event](keptEvents, 0, nil), log: slog.New(slog.NewJSONHandler(io.Discard, &slog.HandlerOptions{Level: level}))}
			_, s := a.events.read(true)
			defer a.events.leave(s)
			b.ReportAllocs()
			for b.Loop() {
				a.emit(workerReady, slog.String("pool", "default"), slog.String("worker", "default-0.1"), slog.Int("pid", 1234), seconds("after_s", time.Second))
			}
		})
	}
}
