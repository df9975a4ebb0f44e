package agent

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func parse(t *testing.T, text string) (Config, []Fault) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "tools.py"), "", 0o600)
	file := filepath.Join(dir, "pitboss.yaml")
	write(t, file, text, 0o600)
	cfg, err := Load(file)
	var faults []Fault
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			var f Fault
			if !errors.As(one, &f) || f.File != file {
				t.Errorf("not a fault of the file: %v", one)
			}
			faults = append(faults, f)
		}
	} else if err != nil {
		t.Fatal(err)
	}
	return cfg, faults
}

func TestAllFaultsComeAtOnceWithTheirPlaces(t *testing.T) {
	_, faults := parse(t, `pools:
  - name: Bad Name
    adapter: missing.py
    workers: 0
    wrokers: 3
    start: spawn
    slots: 4
    queue: {max: -1, timeout: 10}
    timeouts:
      start: soon
      cancel_grace: 2s
    heartbeat: {interval: 5s, max_missed: 3, timeout: 10s, jitter: 60%}
    limits: {payload: 1KB}
    env: {A: "{{.Nothing}}"}
    guard: cgroup
  - name: b
    adapter: tools.py
    workers: {min: 1, max: 4}
  - name: b
    adapter: tools.py
    preload: numpy
watchdog: {mode: off, require: cgroup}
log: {level: loud, format: xml}
telemetry: {}
`)
	for _, want := range []struct {
		line    int
		key     string
		problem string
	}{
		{2, "pools[0].name", `"Bad Name" is no pool name`},
		{3, "pools[0].adapter", "cannot read"},
		{4, "pools[0].workers", "0 is out of range"},
		{5, "pools[0].wrokers", `did you mean "workers"?`},
		{6, "pools[0].start", `"spawn" is not known`},
		{7, "pools[0].slots", "not available in this version"},
		{8, "pools[0].queue.max", "-1 is out of range"},
		{8, "pools[0].queue.timeout", `"10" is not a duration`},
		{10, "pools[0].timeouts.start", `"soon" is not a duration`},
		{11, "pools[0].timeouts.cancel_grace", "not available in this version"},
		{12, "pools[0].heartbeat.timeout", "shorter than interval"},
		{12, "pools[0].heartbeat.jitter", "out of range"},
		{13, "pools[0].limits.payload", `"1KB" is not a size`},
		{14, "pools[0].env.A", "cannot expand"},
		{15, "pools[0].guard", "cannot be had with watchdog.mode: off"},
		{18, "pools[1].workers.min", "not available in this version"},
		{19, "pools[2].name", "the name of another pool"},
		{21, "pools[2].preload", "must be a list"},
		{22, "watchdog.require", "cannot be had with watchdog.mode: off"},
		{23, "log.level", `"loud" is not known`},
		{23, "log.format", `"xml" is not known`},
		{24, "telemetry", "not available in this version"},
	} {
		found := false
		for _, f := range faults {
			if f.Key == want.key && strings.Contains(f.Problem, want.problem) {
				found = true
				if f.Line != want.line || f.Column < 1 {
					t.Errorf("%s: at %d:%d, want line %d", f.Key, f.Line, f.Column, want.line)
				}
			}
		}
		if !found {
			t.Errorf("no fault %s: %s", want.key, want.problem)
		}
	}
	for i, f := range faults {
		if i > 0 && f.Line < faults[i-1].Line {
			t.Errorf("not in the order of the file: %v", f)
		}
	}
	if t.Failed() {
		for _, f := range faults {
			t.Log(f)
		}
	}
}

func TestUnavailableKeysAreRefusedByName(t *testing.T) {
	for key := range notAvailable {
		path := strings.Split(strings.TrimPrefix(key, "pools[]."), ".")
		text, indent := "", ""
		if strings.HasPrefix(key, "pools[]") {
			text, indent = "pools:\n  - name: a\n    adapter: tools.py\n", "    "
		}
		for i, name := range path {
			text += indent + strings.Repeat("  ", i) + name + ":"
			if i == len(path)-1 {
				text += " 1"
			}
			text += "\n"
		}
		_, faults := parse(t, text)
		want := strings.ReplaceAll(key, "[]", "[0]")
		if len(faults) != 1 || faults[0].Key != want || !strings.Contains(faults[0].Problem, "not available in this version") {
			t.Errorf("%s:\n%s%v", key, text, faults)
		}
	}
}

func TestDefaultsAreAConfigurationThatSaysThem(t *testing.T) {
	text := DefaultsYAML()
	cfg, faults := parse(t, text)
	if len(faults) != 0 {
		t.Fatalf("%v\n%s", faults, text)
	}
	pool := DefaultPool()
	pool.Name, pool.Adapter, pool.Workdir = "default", cfg.Pools[0].Adapter, cfg.Pools[0].Workdir
	pool.Preload = cfg.Pools[0].Preload // [] and none are the same
	want := Default()
	want.Pools = []PoolConfig{pool}
	if cfg.Access.Shared() {
		t.Errorf("the defaults let somebody in: %+v", cfg.Access)
	}
	want.Access = cfg.Access // the same of empty lists
	r, read := &want.Pools[0].Release, cfg.Pools[0].Release
	r.Ports, r.Files, r.GPUs = read.Ports, read.Files, read.GPUs
	if len(read.lists()) != 3 || want.Pools[0].gated() || len(cfg.Pools[0].Preload) != 0 || !reflect.DeepEqual(cfg, want) {
		t.Errorf("read  %+v\nwant %+v", cfg, want)
	}
}

// leaf is one key of the configuration: its path in the file and its field.
type leaf struct {
	key, structure, field, doc string
}

func leaves(typ reflect.Type, prefix string) []leaf {
	var all []leaf
	for i := range typ.NumField() {
		f := typ.Field(i)
		key := joinKey(prefix, f.Tag.Get("yaml"))
		all = append(all, leaf{key, typ.Name(), f.Name, f.Tag.Get("doc")})
		inner := f.Type
		if inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			all = append(all, leaves(inner, key)...)
		}
	}
	return all
}

// readers counts the selectors of each name in the code that acts by the configuration: all that is no test and does not
// itself read, check or print one.
func readers(t *testing.T) map[string]int {
	t.Helper()
	count := map[string]int{}
	for _, pattern := range []string{"*.go", "../cmd/agent/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, name := range files {
			base := filepath.Base(name)
			if strings.HasSuffix(base, "_test.go") || strings.HasPrefix(base, "config_") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			written := map[ast.Node]bool{}
			ast.Inspect(file, func(n ast.Node) bool {
				if assign, ok := n.(*ast.AssignStmt); ok {
					for _, left := range assign.Lhs {
						written[left] = true
					}
				}
				if s, ok := n.(*ast.SelectorExpr); ok && !written[s] {
					count[holder(s.X)+"."+s.Sel.Name]++
				}
				return true
			})
		}
	}
	return count
}

// holder is the last name of what a field is selected from: "Limits" for p.cfg().Limits.
func holder(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.SelectorExpr:
		return x.Sel.Name
	case *ast.Ident:
		return x.Name
	case *ast.CallExpr: // p.cfg().Limits
		return holder(x.Fun)
	}
	return ""
}

// Every key has its line of documentation, and code that acts by it: a setting that nothing reads is a lie.
func TestEveryKeyIsDocumentedAndRead(t *testing.T) {
	count := readers(t)
	// How the code names the value that holds the fields of a struct.
	holders := map[string][]string{
		"Config": {"Config", "cfg"}, "PoolConfig": {"cfg", "p"}, "QueueConfig": {"Queue"}, "TimeoutsConfig": {"Timeouts"},
		"HeartbeatConfig": {"Heartbeat", "h"}, "LimitsConfig": {"Limits", "l"}, "ReleaseConfig": {"Release"}, "WatchdogConfig": {"Watchdog"}, "LogConfig": {"Log", "log", "cfg", "c"}, "AccessConfig": {"c"}, "APIConfig": {"API"}, "AccessList": {"list"},
	}
	unread := func(l leaf) bool {
		for _, h := range holders[l.structure] {
			if count[h+"."+l.field] > 0 {
				return false
			}
		}
		return true
	}
	all := leaves(reflect.TypeFor[Config](), "")
	if len(all) < 40 {
		t.Fatalf("the walk found %d keys", len(all))
	}
	for _, l := range all {
		if l.doc == "" || l.key == "" || strings.HasSuffix(l.key, ".") {
			t.Errorf("%s.%s has no key or no doc", l.structure, l.field)
		}
		if unread(l) {
			t.Errorf("no code reads %s (%s.%s)", l.key, l.structure, l.field)
		}
		if notAvailable[strings.ReplaceAll(l.key, "pools.", "pools[].")] {
			t.Errorf("%s is there and refused", l.key)
		}
	}
	if !unread(leaf{structure: "LimitsConfig", field: "Swap"}) {
		t.Error("the control, a field that does not exist, counts as read")
	}
}

func TestConfigurationsThatCannotBeParsed(t *testing.T) {
	for name, text := range map[string]string{"syntax": "pools: [", "two documents": "pools: []\n---\npools: []\n"} {
		file := filepath.Join(t.TempDir(), "pitboss.yaml")
		write(t, file, text, 0o600)
		if _, err := Load(file); err == nil || !strings.HasPrefix(err.Error(), file+":") || !strings.Contains(err.Error(), ": cannot parse: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestSharesSizesAndDurations(t *testing.T) {
	for text, want := range map[string]Share{"0.1": 0.1, "10%": 0.1, "0": 0, "50%": 0.5} {
		if got, err := parseShare(text); err != nil || got != want {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for text, want := range map[string]Size{"0": 0, "1024": 1024, "2KiB": 2048, "3 MiB": 3 << 20, "1GiB": 1 << 30} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "-1", "1.5MiB", "9999999999GiB", "nan%", "inf"} {
		_, shareErr := parseShare(text)
		_, sizeErr := parseSize(text)
		if sizeErr == nil || (shareErr == nil && text != "-1") {
			t.Errorf("%q: %v %v", text, shareErr, sizeErr)
		}
	}
	if DefaultPool().Timeouts.Call != 300*time.Second {
		t.Error("the documented default of timeouts.call is 300 s")
	}
}
