package chaos

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	rounds = flag.Int("chaos.rounds", 0, "rounds of each scenario; 0: as a plain verify")
	long   = flag.Bool("chaos.long", false, "as verify --long")
	seed   = flag.Uint64("chaos.seed", 0, "seed of what is random about the harm; 0 takes a new one")
)

var binaries string // a directory that every user may enter, with what is tested; a repository may be where only its owner can

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if binaries != "" {
		_ = os.RemoveAll(binaries)
	}
	os.Exit(code)
}

var copyBinaries = sync.OnceValue(func() error {
	var err error
	if binaries, err = os.MkdirTemp("", "pitboss-bin"); err != nil {
		return err
	}
	from := cmp.Or(os.Getenv("PITBOSS_BIN"), "../../bin")
	for _, name := range []string{"pitboss", "pitboss-watchdog"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return fmt.Errorf("%w; run `make build` first", err)
		}
		if err := os.WriteFile(filepath.Join(binaries, name), text, 0o755); err != nil {
			return err
		}
	}
	return os.Chmod(binaries, 0o755)
})

// thisHost is this host with the binaries under test: those in $PITBOSS_BIN, else the repository's bin.
func thisHost(t *testing.T) *Host {
	t.Helper()
	if err := copyBinaries(); err != nil {
		t.Fatal(err)
	}
	python := os.Getenv("PITBOSS_PYTHON")
	if python == "" {
		var err error
		if python, err = exec.LookPath("python3"); err != nil {
			t.Fatal(err)
		}
	}
	h, err := NewHost(filepath.Join(binaries, "pitboss"), python)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestCatalogue runs every scenario that this host can run, as verify does.
func TestCatalogue(t *testing.T) {
	host := thisHost(t)
	rep := &Report{Host: host}
	v := &verification{VerifyOptions: VerifyOptions{Host: host, Long: *long, Rounds: *rounds, Seed: *seed}, report: rep}
	var err error
	if v.bystanders, err = newBystanders(host); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.bystanders.close() })
	if v.Seed == 0 {
		v.Seed = 1 + uint64(os.Getpid())
	}
	t.Logf("replay with -chaos.seed=%d", v.Seed)
	for _, s := range append([]Scenario{leakingControl()}, Catalogue()...) {
		if s.Beyond != "" || (*rounds == 0 && s.rounds(*long) == 0) {
			continue // the row says why
		}
		if s.Alone && s.Cannot != nil && !host.Own && s.Cannot(host) == needsWholeHost(host) {
			continue // make test-vm has a machine for it
		}
		t.Run(s.Name, func(t *testing.T) {
			if s.Cannot != nil && s.Cannot(host) != "" {
				t.Skip(s.Cannot(host))
			}
			if s.Waits {
				t.Parallel()
			}
			row := v.run(t.Context(), s, v.rounds(s))
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
		if !regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`).MatchString(s.Name) || len(s.Name) > 45 || seen[s.Name] {
			t.Errorf("%q is no name, or a second one", s.Name)
		}
		seen[s.Name] = true
		if s.What == "" || strings.Contains(s.What, "\n") || (s.Run == nil) == (s.Beyond == "") || (s.Run != nil && (s.Expect == "" || s.Rounds+s.Long == 0)) {
			t.Errorf("%s: it needs a line of what is done, and either Beyond or Expect, rounds and Run", s.Name)
		}
	}
}

// TestAnInnocentIsCounted is the control of the bystanders: one that is hit is seen, once.
func TestAnInnocentIsCounted(t *testing.T) {
	host := thisHost(t)
	b, err := newBystanders(host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.close() }()
	v := &verification{VerifyOptions: VerifyOptions{Host: host, Seed: 1}, bystanders: b, report: &Report{Host: host}}
	hit := func(hits bool) *Row {
		return v.run(t.Context(), Scenario{Name: "hit", Rounds: 1, Run: func(*Round) {
			if hits {
				_ = b.all[1].cmd.Process.Kill()
				<-b.all[1].ended
			}
		}}, 1)
	}
	if row := hit(true); row.Innocents != 1 || row.Result != Fail || !strings.Contains(row.Failures[0], "another agent's keeper") {
		t.Errorf("%+v", row)
	}
	if row := hit(false); row.Innocents != 0 || row.Result != Pass {
		t.Errorf("a second time: %+v", row)
	}
}

// TestASurvivorIsCounted is the control of the count: a round that leaves one behind fails with its name, and the round's end
// clears it away.
func TestASurvivorIsCounted(t *testing.T) {
	host := thisHost(t)
	var left *exec.Cmd
	o := runRound(t.Context(), host, randomOf(1, "left", 0), func(r *Round) {
		left = exec.Command("/bin/sleep", "600")
		left.Env = []string{TokenEnv + "=" + r.Tree().Token}
		left.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		r.Must(left.Start())
		r.Empty(100 * time.Millisecond)
		r.Errorf("not reached")
	})
	if o.Survivors != 1 || len(o.Failures) != 1 || !strings.Contains(o.Failures[0], "/bin/sleep") {
		t.Errorf("%+v", o)
	}
	if err := left.Wait(); err == nil || left.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", left.ProcessState)
	}
}

// TestAVerifyThatIsKilledLeavesNothing, whatever it was about to do.
func TestAVerifyThatIsKilledLeavesNothing(t *testing.T) {
	var place string
	killVerify(t, "kill-agent-idle", func(tree Tree) bool { place = placeOf(tree.Alive()); return place != "" })
	old := time.Now().Add(-2 * freshPlace)
	if err := os.Chtimes(place, old, old); err != nil {
		t.Fatalf("the place is gone before anybody cleared it: %v", err)
	}
	clearPlaces() // those of rounds beside this test are held
	if _, err := os.Stat(place); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", place, err)
	}
}

// killVerify kills a verify of one scenario as soon as its tree is as wanted; nobody of it may be left.
func killVerify(t *testing.T, scenario string, wanted func(Tree) bool) {
	t.Helper()
	host := thisHost(t)
	tree := Tree{Token: "verify-killed-" + scenario + "-" + strconv.Itoa(os.Getpid())}
	verify := exec.Command(host.Binary, "verify", "--only", scenario, "--rounds", "1000")
	verify.Env = append(os.Environ(), "MARK="+tree.Token, "PITBOSS_PYTHON="+host.Python)
	if err := verify.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = verify.Process.Kill(), verify.Wait() }) // again, when it went well
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(4 * patience); !wanted(tree); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("no agent as it is wanted, only %d processes", len(tree.Alive()))
		}
	}
	if err := verify.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = verify.Wait()
	left, took := tree.WaitEmpty(drain + grace + limit)
	for _, s := range left {
		line, _ := os.ReadFile("/proc/" + itoa(s.PID) + "/cmdline")
		t.Errorf("%d %q is left %s after it was killed", s.PID, line, took)
	}
}

// TestAChildBeforeItsExecIsOfNoRound: it holds the files of all of them for a moment.
func TestAChildBeforeItsExecIsOfNoRound(t *testing.T) {
	tree := Tree{Token: "unborn-" + strconv.Itoa(os.Getpid())}
	held, err := os.Create(filepath.Join(t.TempDir(), tree.Token))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = exec.Command("true").Run()
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	for seen, end := 0, time.Now().Add(patience); seen < 20; {
		if time.Now().After(end) {
			t.Fatalf("only %d children were seen before their exec", seen)
		}
		for _, pid := range ChildrenOf(os.Getpid()) {
			if _, sighted := tree.sight(pid, nil); sighted {
				t.Fatalf("process %d is taken for one of the round", pid)
			}
			if tree.holds("/proc/" + itoa(pid) + "/fd") {
				seen++
			}
		}
	}
}

// placeOf is the place of the round whose agent is among these processes, "" while there is none.
func placeOf(all []Sighting) string {
	for _, s := range all {
		line, _ := os.ReadFile("/proc/" + itoa(s.PID) + "/cmdline")
		if found := regexp.MustCompile(`--runtime-dir\x00(/[^\x00]*/` + placePrefix + `[0-9a-f]{16})/`).FindSubmatch(line); found != nil && programOf(parentOf(s.PID)) == "pitboss-watchdog" {
			return string(found[1])
		}
	}
	return ""
}

var write = flag.Bool("chaos.write", false, "write the catalogue into docs/verify.md")

// TestCatalogueDocument holds docs/verify.md to the catalogue; `make gen` writes it.
func TestCatalogueDocument(t *testing.T) {
	const file, heading = "../../docs/verify.md", "## The catalogue\n\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, _, found := strings.Cut(string(text), heading)
	if !found {
		t.Fatalf("%s has no %q", file, heading)
	}
	want := head + heading + Markdown()
	if *write {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(text) != want {
		t.Errorf("%s does not show the catalogue as it is; run `make gen`", file)
	}
}
