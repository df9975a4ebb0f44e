package watchdog

import (
	"math/rand/v2"
	"testing"
)

// TestRoster compares with a map what is left after each of many changes, over several rows and back to none.
func TestRoster(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) // the same changes in each run
	var r roster
	want := map[uint32]bool{}
	next := uint32(0)
	step := func(grow bool) {
		if grow || r.n == 0 {
			next++
			r.add(guarded{pid: next})
			want[next] = true
		} else {
			i := random.IntN(r.n)
			delete(want, r.at(i).pid)
			r.remove(i)
		}
		seen := 0
		for i, g := range r.all {
			if !want[g.pid] || r.at(i) != g {
				t.Fatalf("number %d, pid %d, does not belong there", i, g.pid)
			}
			seen++
		}
		if seen != len(want) || r.n != len(want) {
			t.Fatalf("%d of %d, n is %d", seen, len(want), r.n)
		}
	}
	for range 5 * rosterRow {
		step(random.IntN(4) > 0)
	}
	rows := len(r.rows)
	if rows < 2 {
		t.Fatalf("%d rows", rows)
	}
	for r.n > 0 {
		step(false)
	}
	for _, row := range r.rows {
		if *row != [rosterRow]guarded{} {
			t.Fatal("a name is kept alive by a removed entry")
		}
	}
	for range rows * rosterRow {
		step(true)
	}
	if len(r.rows) != rows {
		t.Errorf("%d rows where %d had room", len(r.rows), rows)
	}
	for range r.all {
		break // must not go on
	}
}
