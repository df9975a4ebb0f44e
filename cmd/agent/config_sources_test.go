package main

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

const (
	mainFile = `log: {level: warn, format: text}
watchdog: {agent_timeout: 10s}
pools:
  - name: default
    adapter: tools.py
    workers: 2
    env: {TOKEN: very-secret, MODE: fast}
    queue: {max: 7}
`
	droppedIn = `watchdog: {on_loss: continue}
pools:
  - name: extra
    adapter: ../tools.py
    workers: 1
`
)

// withSources is a host whose configuration comes from a file, one in conf.d and two that do not count.
func withSources(t *testing.T) *host {
	t.Helper()
	h := newHost(t)
	must(t, os.Mkdir(h.path("conf.d"), 0o755))
	for name, text := range map[string]string{"pitboss.yaml": mainFile, "conf.d/10-extra.yaml": droppedIn, "conf.d/.hidden.yaml": "pools: 1\n", "conf.d/readme.txt": "pools: 1\n"} {
		must(t, os.WriteFile(h.path(name), []byte(text), 0o644))
	}
	return h
}

// TestWhereEachValueComesFrom: a variable beats the files, the files beat the defaults, and `config show` names the place.
func TestWhereEachValueComesFrom(t *testing.T) {
	h := withSources(t)
	const variables = "PITBOSS_POOLS_DEFAULT_WORKERS=3 PITBOSS_LOG_LEVEL=error "
	g := h.goldens("config")
	g.run("pitboss config show --config pitboss.yaml", variables+"pitboss config show --config pitboss.yaml", variables+"pitboss config show --config pitboss.yaml --json",
		"pitboss config show --config pitboss.yaml --show-env", variables+"pitboss config check pitboss.yaml", variables+"pitboss config check pitboss.yaml --json")

	h.env = append(h.env, strings.Fields(variables)...)
	e := h.pitboss("config", "show", "--config", "pitboss.yaml")
	for _, line := range []string{
		"    workers: 3  # $PITBOSS_POOLS_DEFAULT_WORKERS\n", "  level: error  # $PITBOSS_LOG_LEVEL\n", // over the file's 2 and warn
		"  format: text  # pitboss.yaml:1\n", "      max: 7  # pitboss.yaml:8\n", "  agent_timeout: 10s  # pitboss.yaml:2\n", "  on_loss: continue  # conf.d/10-extra.yaml:1\n", // one section, two files
		"    name: extra  # conf.d/10-extra.yaml:3\n", "    serialization: strict  # default\n", "      TOKEN: \"***\"  # pitboss.yaml:7\n",
	} {
		if !strings.Contains(e.stdout, line) {
			t.Errorf("config show does not hold %q:\n%s", line, e.stdout)
		}
	}
	if strings.Contains(e.stdout, "very-secret") {
		t.Errorf("config show tells a secret:\n%s", e.stdout)
	}
	s := h.start(h.command("pitboss", "agent", "--config", "pitboss.yaml")) // and what it shows is what an agent does
	s.awaitReady()
	if st, _ := s.status(); len(st.Pools) != 2 || st.Pools[0].Ready != 3 || st.Pools[1].Name != "extra" || st.Pools[1].Ready != 1 {
		t.Errorf("%+v", st.Pools)
	}
}

// TestEveryFaultOfEverySource at once: the file's, conf.d's, a variable's, and what only all of them together have.
func TestEveryFaultOfEverySource(t *testing.T) {
	h := withSources(t)
	must(t, os.WriteFile(h.path("pitboss.yaml"), []byte(strings.Replace(mainFile, "workers: 2", "workers: 0", 1)), 0o644))
	must(t, os.WriteFile(h.path("conf.d/20-late.yaml"), []byte("log: {level: debug}\npools:\n  - name: default\n    adapter: ../tools.py\n    wrokers: 1\n"), 0o644))
	must(t, os.WriteFile(h.path("conf.d/30-torn.yaml"), []byte("pools: [\n"), 0o644))
	g := h.goldens("config_faults")
	const variables = "PITBOSS_LOG_FORMAT=loud PITBOSS_WATCHDOG_MOED=off PITBOSS_POOLS_DEFAULT_START=exec "
	g.run(variables+"pitboss config check pitboss.yaml", variables+"pitboss config check pitboss.yaml --json", variables+"pitboss agent --config pitboss.yaml")
	h.env = append(h.env, strings.Fields(variables)...)
	h.pitboss("config", "check", "pitboss.yaml").want(t, 78,
		"pitboss.yaml:6:14: pools[0].workers: 0 is out of range", "conf.d/20-late.yaml:1:14: log.level", "conf.d/20-late.yaml:5:5: pools[0].wrokers: unknown key; did you mean", "conf.d/20-late.yaml:3:11: pools[0].name: \"default\" is the name of another pool, at pitboss.yaml:4:11",
		"conf.d/30-torn.yaml:", "$PITBOSS_LOG_FORMAT: log.format: \"loud\"", "$PITBOSS_WATCHDOG_MOED: sets no key; did you mean \"PITBOSS_WATCHDOG_MODE\"?")
}

// TestTheDefaultsComeBack: what `config defaults` prints is accepted, and changes no value; what `config show` prints too.
func TestTheDefaultsComeBack(t *testing.T) {
	h := newHost(t)
	must(t, os.WriteFile(h.path("defaults.yaml"), []byte(h.pitboss("config", "defaults").stdout), 0o644))
	h.pitboss("config", "check", "defaults.yaml").want(t, 0)
	tree := func(e ended) map[string]any {
		t.Helper()
		var doc struct{ Config map[string]any }
		if err := json.Unmarshal([]byte(e.stdout), &doc); err != nil || len(doc.Config) == 0 {
			t.Fatalf("%v: %+v", err, e)
		}
		for _, pool := range doc.Config["pools"].([]any) { // both are made absolute when they are read
			delete(pool.(map[string]any), "adapter")
			delete(pool.(map[string]any), "workdir")
		}
		return doc.Config
	}
	want := tree(h.pitboss("config", "defaults", "--json"))
	if got := tree(h.pitboss("config", "show", "--config", "defaults.yaml", "--json")); !reflect.DeepEqual(got, want) {
		t.Errorf("the defaults come back as\n%v\nwant\n%v", got, want)
	}
	must(t, os.WriteFile(h.path("again.yaml"), []byte(h.pitboss("config", "show", "--config", "defaults.yaml").stdout), 0o644))
	h.pitboss("config", "check", "again.yaml").want(t, 0)
	if got := tree(h.pitboss("config", "show", "--config", "again.yaml", "--json")); !reflect.DeepEqual(got, want) {
		t.Errorf("what config show prints comes back as\n%v\nwant\n%v", got, want)
	}
	must(t, os.WriteFile(h.path("again.yaml"), []byte(strings.Replace(read(t, h.path("again.yaml")), "start: fork", "start: exec", 1)), 0o644))
	if got := tree(h.pitboss("config", "show", "--config", "again.yaml", "--json")); reflect.DeepEqual(got, want) {
		t.Error("another start method makes no difference: the comparison is blind")
	}
}
