package agent

import (
	"testing"
	"time"
)

// TestTheReleaseDecision is the policy as a table. A limit of 30 s, and 30 s between two looks after it.
func TestTheReleaseDecision(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name  string
		v     releaseView
		force bool
		step  releaseStep
		again time.Duration
	}{
		{"nothing known", releaseView{}, false, releaseLook, 0},
		{"the first look goes on", releaseView{waited: 10 * ms, probing: true}, false, releaseWait, 29990 * ms},
		{"all free", releaseView{waited: 10 * ms, looked: true, free: true}, false, releaseStart, 0},
		{"all free, a moment ago", releaseView{waited: time.Second, looked: true, free: true, age: releaseFresh}, false, releaseStart, 0},
		{"all free, but that is long ago", releaseView{waited: time.Second, looked: true, free: true, age: releaseFresh + 1}, false, releaseLook, 0},
		{"held, just now", releaseView{looked: true}, false, releaseWait, releasePauseFirst},
		{"held, and the pause is over", releaseView{waited: 5 * ms, looked: true, age: releasePauseFirst}, false, releaseLook, 0},
		{"held for long: looks are rarer", releaseView{waited: 4 * time.Second, looked: true}, false, releaseWait, 500 * ms},
		{"but at least each second", releaseView{waited: 20 * time.Second, looked: true}, false, releaseWait, time.Second},
		{"the limit comes before the next look", releaseView{waited: 29900 * ms, looked: true}, false, releaseWait, 100 * ms},
		{"the limit", releaseView{waited: 30 * time.Second, looked: true, named: true}, false, releaseFail, 0},
		{"the limit, and nobody has asked who has it", releaseView{waited: 30 * time.Second, looked: true}, true, releaseLook, 0},
		{"the limit, and somebody asks that", releaseView{waited: 31 * time.Second, looked: true, named: true, probing: true}, true, releaseWait, 4 * time.Second},
		{"the limit, and that takes too long", releaseView{waited: 35 * time.Second, looked: true, named: true, probing: true}, false, releaseFail, 0},
		{"the limit, and a look that does not end", releaseView{waited: 30 * time.Second, probing: true}, false, releaseFail, 0},
		{"the limit, where that starts it", releaseView{waited: 30 * time.Second, looked: true, named: true}, true, releaseForce, 0},
		{"free at the limit", releaseView{waited: 31 * time.Second, looked: true, free: true}, false, releaseStart, 0},
		{"beyond the limit", releaseView{waited: 31 * time.Second, looked: true, overdue: true}, false, releaseWait, 30 * time.Second},
		{"beyond the limit, a look is due", releaseView{waited: 70 * time.Second, looked: true, age: 30 * time.Second, overdue: true}, false, releaseLook, 0},
		{"beyond the limit, a look does not end", releaseView{waited: 70 * time.Second, probing: true, overdue: true}, false, releaseWait, 0},
		{"free at last", releaseView{waited: time.Hour, looked: true, free: true, overdue: true}, false, releaseStart, 0},
	} {
		step, again := decideRelease(c.v, 30*time.Second, c.force, probeInterval)
		if step != c.step || again != c.again {
			t.Errorf("%s: %s again after %s, want %s after %s", c.name, step, again, c.step, c.again)
		}
	}
}

// Whatever the state, a slot that does not start has a next time, or a look that goes on and will poke the loop.
func TestNoReleaseWaitsForEver(t *testing.T) {
	for _, waited := range []time.Duration{0, time.Second, 29999 * time.Millisecond, 30 * time.Second, time.Hour} {
		for _, age := range []time.Duration{0, time.Millisecond, time.Second, time.Minute} {
			for bits := range 64 {
				v := releaseView{waited: waited, age: age, probing: bits&1 != 0, looked: bits&2 != 0, free: bits&4 != 0, overdue: bits&8 != 0, named: bits&32 != 0}
				step, again := decideRelease(v, 30*time.Second, bits&16 != 0, probeInterval)
				if step == releaseWait && again <= 0 && !v.probing {
					t.Errorf("%+v waits for nothing", v)
				}
				if step == releaseLook && v.probing {
					t.Errorf("%+v looks twice at once", v)
				}
				if v.overdue && (step == releaseFail || step == releaseForce) {
					t.Errorf("%+v: the limit passes twice", v)
				}
			}
		}
	}
}

func TestPortsAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]string{
		"8500": "invalid IP 8500 false", "8500/tcp": "invalid IP 8500 false", "8500/udp": "invalid IP 8500 true", "127.0.0.1:80": "127.0.0.1 80 false",
		"[::1]:65535/udp": "::1 65535 true",
	} {
		a, err := parsePort(text)
		if err != nil || fmtPort(a) != want {
			t.Errorf("%s: %s %v, want %s", text, fmtPort(a), err, want)
		}
	}
	for _, text := range []string{"", "0", "65536", "-1", "http", "8500/sctp", "8500/", "localhost:80", "::1:", "[::1]", "1.2.3:80", "+80", " 80"} {
		if a, err := parsePort(text); err == nil {
			t.Errorf("%q is taken as %s", text, fmtPort(a))
		}
	}
}
