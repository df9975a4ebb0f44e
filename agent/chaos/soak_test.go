package chaos

import (
	"encoding/json"
	"flag"
	"testing"
	"time"
)

var soakFor = flag.Duration("chaos.soak", 0, "how long TestSoak runs; 0: not at all")

// TestSoak is the long run without a false kill: `go test ./agent/chaos -run TestSoak -v -timeout 0 -chaos.soak=1h`.
func TestSoak(t *testing.T) {
	if *soakFor == 0 {
		t.Skip("runs for as long as -chaos.soak says")
	}
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
