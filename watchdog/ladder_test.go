package watchdog

import (
	"slices"
	"testing"
)

func TestVictimsInEveryPhase(t *testing.T) {
	for p := range phaseCount {
		var l ladder
		first := l.victims(p, []int32{3, 5, 7})
		if p != sweeping {
			if len(first) != 0 || l.killed != 0 || len(l.sent) != 0 {
				t.Errorf("%v kills %v", p, first)
			}
			continue
		}
		if !slices.Equal(first, []int32{3, 5, 7}) {
			t.Errorf("sweeping kills %v of 3, 5, 7", first)
		}
		if again := l.victims(p, []int32{3, 5, 7, 9}); !slices.Equal(again, []int32{9}) {
			t.Errorf("the second look kills %v, want 9 alone", again)
		}
		l.reaped(5)
		if reused := l.victims(p, []int32{3, 5}); !slices.Equal(reused, []int32{5}) {
			t.Errorf("the number 5 came back as another child: %v", reused)
		}
		if l.killed != 5 {
			t.Errorf("%d killed, want 5", l.killed)
		}
	}
}

func TestConcludeEveryView(t *testing.T) {
	for bits := range 8 {
		v := view{childless: bits&1 != 0, populated: bits&2 != 0, fresh: bits >> 2}
		kind, ok := conclude(v)
		switch {
		case v.childless && !v.populated:
			if !ok || kind != evEmpty {
				t.Errorf("%+v: %v %v, want empty", v, kind, ok)
			}
		case v.fresh > 0:
			if !ok || kind != evSwept {
				t.Errorf("%+v: %v %v, want swept", v, kind, ok)
			}
		case ok:
			t.Errorf("%+v: %v, want nothing", v, kind)
		}
	}
}

// Every combination of what can be known at the end, with the sentences of PROTOCOL.md and the package comment.
func TestOutcomeEveryCombination(t *testing.T) {
	n := 0
	for _, exited := range []bool{false, true} {
		for _, code := range []int{0, 3, 255} {
			for _, hello := range []bool{false, true} {
				for _, bye := range []int{-1, 0, 5} {
					for _, cause := range []string{"", "hang", "abort", "stop timeout"} {
						for _, killed := range []int{0, 2} {
							for _, left := range []int{0, 1} {
								o := outcome{exited, code, hello, bye, cause, killed, left}
								checkOutcome(t, o)
								n++
							}
						}
					}
				}
			}
		}
	}
	if n != 2*3*2*3*4*2*2 {
		t.Fatal("combinations are missing")
	}
}

func checkOutcome(t *testing.T, o outcome) {
	t.Helper()
	announced := o.bye >= 0
	never := !o.hello && !announced // a command that never was an agent
	clean := o.survivors == 0 && o.cause == ""
	want := 70
	switch {
	case clean && announced:
		want = o.bye
	case clean && never && o.exited:
		want = o.code
	}
	if got := o.exitCode(); got != want {
		t.Errorf("%+v: exit code %d, want %d", o, got, want)
	}
	// No certificate only for an end that was as it should be and left nothing to kill.
	quiet := clean && o.killed == 0 && (announced || never && o.exited)
	if got := o.certified(); got == quiet {
		t.Errorf("%+v: certified %v, want %v", o, got, !quiet)
	}
	if o.survivors > 0 && (o.exitCode() == 0 || !o.certified()) {
		t.Errorf("%+v: survivors are hidden", o)
	}
}
