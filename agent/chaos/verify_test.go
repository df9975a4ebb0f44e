package chaos

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	rounds = flag.Int("chaos.rounds", 0, "rounds of each scenario; 0: as a plain verify")
	long   = flag.Bool("chaos.long", false, "as verify --long")
	seed   = flag.Uint64("chaos.seed", 0, "seed of what is random about the harm; 0 takes a new one")
)

// thisHost is this host with the binaries under test: those in $PITBOSS_BIN, else the repository's bin.
func thisHost(t *testing.T) *Host {
	t.Helper()
	dir := os.Getenv("PITBOSS_BIN")
	if dir == "" {
		dir = "../../bin"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pitboss", "pitboss-watchdog"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Fatalf("%v; run `make build` first", err)
		}
	}
	return NewHost(filepath.Join(dir, "pitboss"), os.Getenv("PITBOSS_PYTHON"))
}

// TestCatalogue runs every scenario that this host can run, as verify does.
func TestCatalogue(t *testing.T) {
	host := thisHost(t)
	rep := &Report{Host: host}
	v := &verification{VerifyOptions: VerifyOptions{Host: host, Long: *long, Rounds: *rounds, Seed: *seed}, report: rep}
	if v.Seed == 0 {
		v.Seed = 1 + uint64(os.Getpid())
	}
	t.Logf("replay with -chaos.seed=%d", v.Seed)
	for _, s := range append([]Scenario{leakingControl()}, Catalogue()...) {
		if s.Beyond != "" || (s.Cannot != nil && s.Cannot(host) != "") || (*rounds == 0 && s.rounds(*long) == 0) {
			continue // the row says why
		}
		t.Run(s.Name, func(t *testing.T) {
			if s.Waits {
				t.Parallel()
			}
			row := v.run(t.Context(), s)
			for _, f := range row.Failures {
				t.Error(f)
			}
			t.Log(row)
		})
	}
}

// TestTheCatalogueIsWhole: what results are compared by is there and unique.
func TestTheCatalogueIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Catalogue() {
		if !regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`).MatchString(s.Name) || len(s.Name) > 40 || seen[s.Name] {
			t.Errorf("%q is no name, or a second one", s.Name)
		}
		seen[s.Name] = true
		if s.What == "" || strings.Contains(s.What, "\n") || (s.Run == nil) == (s.Beyond == "") || (s.Run != nil && (s.Expect == "" || s.Rounds+s.Long == 0)) {
			t.Errorf("%s: it needs a line of what is done, and either Beyond or Expect, rounds and Run", s.Name)
		}
	}
}
