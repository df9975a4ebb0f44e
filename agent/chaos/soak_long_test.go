//go:build soak

package chaos

import (
	"encoding/json"
	"flag"
	"testing"
	"time"
)

var soakFor = flag.Duration("chaos.soak", time.Minute, "how long TestSoak runs")

// TestSoak is the run without a false kill that `pitboss verify --soak` makes, shorter.
func TestSoak(t *testing.T) {
	rep := Soak(t.Context(), SoakOptions{Host: thisHost(t), Duration: *soakFor}, func(line string) { t.Log(time.Now().UTC().Format("15:04:05"), line) })
	text, err := json.MarshalIndent(rep, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	if !rep.OK {
		t.Error("it is not what was promised")
	}
}
