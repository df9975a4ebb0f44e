package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/pitboss-run/pitboss/ipc"
)

func TestEveryValueKnowsWhereItCameFrom(t *testing.T) {
	dir := lay(t, files{
		"pitboss.yaml":      "log:\n  level: warn\npools:\n  - name: a\n    adapter: tools.py\n    env:\n      TOKEN: secret\n",
		"conf.d/20-c.yaml":  "pools:\n  - {name: c-1, adapter: ../tools.py, workers: 3}\n",
		"conf.d/10-b.yaml":  "watchdog: {on_loss: continue}\npools:\n  - {name: b, adapter: ../tools.py}\n",
		"conf.d/30-no.yml":  "not: read\n",
		"conf.d/.hid.yaml":  "not: read\n",
		"conf.d/a.yaml.bak": "not: read\n",
	})
	main := filepath.Join(dir, "pitboss.yaml")
	cfg, origins, err := LoadAll(main, []string{"PITBOSS_WATCHDOG_AGENT_TIMEOUT=9s", "PITBOSS_POOLS_C_1_WORKERS=4", "PITBOSS_POOLS_A_PRELOAD=json, math",
		"PITBOSS_SOCKET=/x", "PITBOSS_WATCHDOG=/x", "PITBOSS_PORT_80_TCP=x", "HOME=/"})
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Pools) != 3 || cfg.Pools[0].Name != "a" || cfg.Pools[1].Name != "b" || cfg.Pools[2].Name != "c-1" {
		t.Fatalf("not in the order of the files: %+v", cfg.Pools)
	}
	if cfg.Log.Level != "warn" || cfg.Watchdog.OnLoss != "continue" || cfg.Watchdog.AgentTimeout != 9*time.Second || cfg.Pools[2].Workers != 4 ||
		!slices.Equal(cfg.Pools[0].Preload, []string{"json", "math"}) || cfg.Pools[1].Workdir != filepath.Join(dir, "conf.d") {
		t.Errorf("%+v", cfg)
	}
	for key, want := range map[string]string{
		"log.level": main + ":2", "log.format": "default", "pools.a.name": main + ":4", "pools.a.env.TOKEN": main + ":7",
		"pools.a.workers": "default", "pools.a.preload": "$PITBOSS_POOLS_A_PRELOAD", "watchdog.on_loss": filepath.Join(dir, "conf.d/10-b.yaml") + ":1",
		"watchdog.agent_timeout": "$PITBOSS_WATCHDOG_AGENT_TIMEOUT", "pools.b.adapter": filepath.Join(dir, "conf.d/10-b.yaml") + ":3",
		"pools.c-1.workers": "$PITBOSS_POOLS_C_1_WORKERS", "pools.c-1.name": filepath.Join(dir, "conf.d/20-c.yaml") + ":2",
	} {
		if got, ok := origins[key]; !ok || got.String() != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	scalars := 0
	for _, l := range leaves(reflect.TypeFor[Config](), "") {
		if origins[l.key].Kind != "" {
			scalars++
		} else if strings.HasPrefix(l.key, "pools.") && origins["pools.a."+strings.TrimPrefix(l.key, "pools.")].Kind != "" {
			scalars++
		}
	}
	if scalars != 52 { // 39 of a pool, 4 of the watchdog, 2 of the log, 6 lists of access, 1 of the API
		t.Errorf("%d keys have an origin", scalars)
	}
	showsItself(t, cfg, origins)
}

// showsItself loads what is shown and finds the same.
func showsItself(t *testing.T, cfg Config, origins Origins) {
	t.Helper()
	cfg.Pools[0].Env = map[string]string{"TOKEN": "a \"b\"\n\té: #", "N": "12", "NULL": "null", "T": "~", "E": ""}
	file := filepath.Join(t.TempDir(), "shown.yaml")
	write(t, file, cfg.ShowYAML(origins), 0o600)
	again, err := Load(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, cfg.ShowYAML(origins))
	}
	if fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", cfg) { // [] and none are the same
		t.Errorf("read  %+v\nshown %+v", again, cfg)
	}
	if hidden := cfg.WithoutSecrets().ShowYAML(origins); strings.Contains(hidden, `a \"b\"`) || strings.Count(hidden, `"***"`) != 5 {
		t.Errorf("not hidden:\n%s", hidden)
	}
	if cfg.Pools[0].Env["N"] != "12" {
		t.Error("hiding has changed the configuration itself")
	}
}

// The tags are whole, their bounds can be parsed, the default lies within, and what is just outside is refused.
func TestTheTagsAreWholeAndAreWhatIsChecked(t *testing.T) {
	cfg, pool := Default(), DefaultPool()
	var walk func(v reflect.Value, key string)
	bounded := 0
	walk = func(v reflect.Value, key string) {
		for i := range v.NumField() {
			field, value := v.Type().Field(i), v.Field(i)
			key, tag := joinKey(key, field.Tag.Get("yaml")), field.Tag
			if value.Kind() == reflect.Struct {
				walk(value, key)
				continue
			}
			if tag.Get("doc") == "" {
				t.Errorf("%s has no doc", key)
			}
			number := value.Kind() == reflect.Int || value.Kind() == reflect.Int64 || value.Kind() == reflect.Float64
			if number != (tag.Get("min") != "" && tag.Get("max") != "" && tag.Get("unit") != "") {
				t.Errorf("%s: a number has unit, min and max, and nothing else has: %s", key, tag)
				continue
			}
			if !number {
				continue
			}
			bounded++
			refused := func(text string, step float64) bool {
				probe := reflect.New(value.Type()).Elem()
				if n := bound(value.Type(), text) + step; probe.CanInt() {
					probe.SetInt(int64(n))
				} else {
					probe.SetFloat(n)
				}
				c := &checker{}
				c.bounds(key, probe, tag)
				return len(c.faults) > 0
			}
			step := 1.0
			if value.Kind() == reflect.Float64 {
				step = 0.001
			}
			if refused(tag.Get("min"), 0) || refused(tag.Get("max"), 0) || !refused(tag.Get("min"), -step) || !refused(tag.Get("max"), step) {
				t.Errorf("%s: the bounds are not what is checked", key)
			}
		}
	}
	walk(reflect.ValueOf(pool), "pools[]")
	walk(reflect.ValueOf(cfg.Watchdog), "watchdog")
	walk(reflect.ValueOf(cfg.Log), "log")
	c := &checker{}
	c.tags(reflect.ValueOf(pool), "")
	c.tags(reflect.ValueOf(cfg), "")
	if len(c.faults) > 0 || bounded < 18 {
		t.Errorf("%d bounded keys; defaults outside: %v", bounded, c.faults)
	}
	if uint64(bound(reflect.TypeFor[Size](), "3GiB")) > ipc.MaxPayloadLimit {
		t.Error("limits.payload allows more than a frame can carry")
	}
}

// The detector's own ranges are those of the tags.
func TestTheDetectorAcceptsWhatTheTagsAccept(t *testing.T) {
	typ := reflect.TypeFor[HeartbeatConfig]()
	for i := range typ.NumField() {
		for _, name := range []string{"min", "max"} {
			text, ok := typ.Field(i).Tag.Lookup(name)
			if !ok {
				continue
			}
			h := DefaultPool().Heartbeat
			field := reflect.ValueOf(&h).Elem().Field(i)
			step := int64(-1)
			if name == "max" {
				step = 1
			}
			for _, outside := range []bool{false, true} {
				if err := setScalar(field, text); err != nil {
					t.Fatal(err)
				}
				switch {
				case outside && field.CanInt():
					field.SetInt(field.Int() + step)
				case outside:
					field.SetFloat(field.Float() + float64(step)*0.001)
				}
				err := h.detector().Validate()
				key := "heartbeat." + typ.Field(i).Tag.Get("yaml") + ": "
				if got := err != nil && strings.Contains(err.Error(), key) && strings.Contains(err.Error(), "out of range"); got != outside {
					t.Errorf("%s%s: outside %v, refused %v: %v", key, name, outside, got, err)
				}
			}
		}
	}
}

// designed is the configuration as it is meant in the end. Each of its keys is read, or refused by name.
const designed = `
pools:
  - name: default
    adapter: tools.py
    workdir: /srv/app
    python: /opt/venv/bin/python
    workers: {min: 2, max: 8, idle: 60s}
    slots: 1
    start: fork
    start_parallel: 4
    preload: [numpy]
    env: {}
    affinity: hint
    serialization: strict
    queue: {max: 1000, timeout: 10s}
    timeouts: {start: 120s, call: 300s, stream: 900s, cancel_grace: 2s, drain: 30s, kill: 3s}
    recycle: {max_calls: 0, max_age: 0s, max_memory: 0, jitter: 10%}
    heartbeat: {enabled: true, interval: 2s, timeout: 10s, max_missed: 3, on_lost: replace, jitter: 10%}
    limits: {memory: 0, cpu: 0, pids: 0, nofile: 0, core: 0}
    guard: tree
watchdog: {mode: auto, agent_timeout: 8s, on_loss: drain}
access: {clients: {groups: [pitboss-clients]}, viewers: {}, admins: {users: [root]}}
telemetry: {listen: "", events: {heartbeat: true, process: true, watchdog: true}, otlp: ""}
log: {level: info, format: auto}
`

func TestEveryDesignedKeyIsReadOrRefused(t *testing.T) {
	known := map[string]bool{}
	for _, l := range leaves(reflect.TypeFor[Config](), "") {
		known[strings.Replace(l.key, "pools.", "pools[].", 1)] = true
	}
	refused := map[string]bool{}
	var walk func(v any, key string)
	walk = func(v any, key string) {
		if key != "" && notAvailable[key] {
			refused[key] = true
			return
		}
		switch v := v.(type) {
		case map[string]any:
			for name, inner := range v {
				walk(inner, joinKey(key, name))
			}
			return
		case []any:
			if len(v) == 1 && key == "pools" {
				walk(v[0], "pools[]")
				return
			}
		}
		if !known[key] {
			t.Errorf("%s is neither read nor refused", key)
		}
	}
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(designed), &tree); err != nil {
		t.Fatal(err)
	}
	delete(tree["pools"].([]any)[0].(map[string]any), "env")
	walk(tree, "")
	for key := range notAvailable {
		if !refused[key] {
			t.Errorf("%s is refused and nobody has meant it", key)
		}
	}
}

// What `make gen` has written is what the structs say, and its example is a configuration.
func TestTheDocumentedExampleIsAConfiguration(t *testing.T) {
	text, err := os.ReadFile("../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != ConfigMarkdown() {
		t.Error("docs/config.md is not what the structs say; run `make gen`")
	}
	_, example, ok := strings.Cut(string(text), "```yaml\n")
	example, _, end := strings.Cut(example, "```")
	if !ok || !end {
		t.Fatal("docs/config.md has no example")
	}
	cfg, faults := parse(t, example)
	if len(faults) > 0 || len(cfg.Pools) != 1 || cfg.Pools[0].Workers != 2 {
		t.Errorf("%v %+v", faults, cfg)
	}
	for _, l := range leaves(reflect.TypeFor[Config](), "") {
		name := l.key[strings.LastIndexByte(l.key, '.')+1:]
		if !regexp.MustCompile(`(?m)^ *` + name + `:`).MatchString(example) {
			t.Errorf("the example has no %s", l.key)
		}
	}
}
