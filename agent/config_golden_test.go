package agent

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var updateGolden = flag.Bool("update", false, "write the golden files anew")

// files is a configuration directory: names to texts.
type files map[string]string

// mistakes are the kinds of faults; what is said of each is in testdata/config_faults.txt.
var mistakes = []struct {
	name    string
	files   files
	environ []string
}{
	{name: "syntax", files: files{"pitboss.yaml": "pools: [\n"}},
	{name: "tab for indentation", files: files{"pitboss.yaml": "log:\n\tlevel: info\n"}},
	{name: "two documents", files: files{"pitboss.yaml": "pools: []\n---\npools: []\n"}},
	{name: "key given twice", files: files{"pitboss.yaml": "log: {level: info}\nlog: {level: warn}\n"}},
	{name: "top is a list", files: files{"pitboss.yaml": "- pools\n"}},
	{name: "section is a scalar", files: files{"pitboss.yaml": "log: info\n"}},
	{name: "unknown key near", files: files{"pitboss.yaml": "watchdog: {mod: off}\n"}},
	{name: "unknown key far", files: files{"pitboss.yaml": "log: {destination: x}\n"}},
	{name: "unavailable section", files: files{"pitboss.yaml": "telemetry: {listen: ''}\n"}},
	{name: "unavailable pool key", files: one("slots: 4")},
	{name: "unavailable form", files: one("workers: {min: 1, max: 2}")},
	{name: "list for a scalar", files: one("start: [fork]")},
	{name: "scalar for a list", files: one("preload: numpy")},
	{name: "scalar for a map", files: one("env: A=1")},
	{name: "list in env", files: one("env: {A: [1]}")},
	{name: "not a number", files: one("workers: many")},
	{name: "payload too large for the memory", files: one("limits: {payload: 1GiB}")},
	{name: "number out of range", files: one("workers: 0")},
	{name: "zero or above a minimum", files: one("limits: {nofile: 63}")},
	{name: "not a duration", files: one("timeouts: {call: 10}")},
	{name: "duration out of range", files: one("timeouts: {drain: 1s}")},
	{name: "limits out of range", files: one("limits: {memory: 1MiB, cpu: 0.1%, pids: 3}")},
	{name: "a guard without a watchdog", files: one("guard: cgroup\nwatchdog: {mode: off}")},
	{name: "not a size", files: one("limits: {payload: 1KB}")},
	{name: "size out of range", files: one("limits: {payload: 4GiB}")},
	{name: "not a share", files: one("heartbeat: {jitter: little}")},
	{name: "share out of range", files: one("heartbeat: {jitter: 51%}")},
	{name: "not a bool", files: one("heartbeat: {enabled: sometimes}")},
	{name: "not a choice", files: one("start: spawn")},
	{name: "unknown tier", files: one("guard: vm")},
	{name: "values against each other", files: one("heartbeat: {interval: 10s}")},
	{name: "template", files: one("env: {A: '{{.Nothing}}'}")},
	{name: "name of a variable", files: one("env: {'A=B': x}")},
	{name: "no port", files: one("release: {ports: [8500, http, '{{add 65535 .Index}}', '8500/sctp', 'localhost:80']}")},
	{name: "a port of two workers", files: one("release: {ports: ['8500'], files: ['{{.Index}}.lock', all.lock]}")},
	{name: "release out of range", files: one("release: {timeout: 1ms, on_timeout: wait, ports: 8500}")},
	{name: "template of a resource", files: one("release: {files: ['{{.Number}}', '']}")},
	{name: "a GPU that cannot be asked for", files: one("release: {gpus: [0]}")},
	{name: "memory of no GPU", files: one("release: {gpu_memory: 1GiB}")},
	{name: "no adapter", files: files{"pitboss.yaml": "pools:\n  - name: a\n"}},
	{name: "missing adapter", files: files{"pitboss.yaml": "pools:\n  - {name: a, adapter: gone.py}\n"}},
	{name: "missing workdir", files: one("workdir: nowhere")},
	{name: "pool name", files: files{"pitboss.yaml": "pools:\n  - {name: A B, adapter: tools.py}\n"}},
	{name: "tier without watchdog", files: files{"pitboss.yaml": "pools:\n  - {name: a, adapter: tools.py}\nwatchdog: {mode: off}\n"}},
	{name: "demand without watchdog", files: files{"pitboss.yaml": "watchdog: {mode: off, require: tree}\n"}},
	{name: "pool twice in a file", files: files{"pitboss.yaml": "pools:\n  - {name: a, adapter: tools.py}\n  - {name: a, adapter: tools.py}\n"}},
	{name: "pool twice in two files", files: files{"pitboss.yaml": "pools:\n  - {name: a, adapter: tools.py}\n",
		"conf.d/b.yaml": "pools:\n  - {name: b, adapter: ../tools.py}\n  - {name: a, adapter: ../tools.py}\n"}},
	{name: "scalar in two files", files: files{"conf.d/10.yaml": "log: {level: info}\n", "conf.d/20.yaml": "log:\n  level: warn\n"}},
	{name: "several files", files: files{"pitboss.yaml": "log: {level: loud}\n", "conf.d/10.yaml": "pools: [\n", "conf.d/20.yaml": "pools:\n  - {name: a, adapter: gone.py}\n",
		"conf.d/.hidden.yaml": "not: read\n", "conf.d/notes.txt": "not read"}, environ: []string{"PITBOSS_LOG_FORMAT=xml", "PITBOSS_POOLS_UNREAD_WORKERS=2"}},
	{name: "no file", files: files{"conf.d/10.yaml": "log: {level: loud}\n"}},
	{name: "conf.d is a file", files: files{"pitboss.yaml": "", "conf.d": ""}},
	{name: "directory in conf.d", files: files{"pitboss.yaml": "", "conf.d/a.yaml/b": ""}},
	{name: "unknown variable near", files: one(""), environ: []string{"PITBOSS_LOG_LEVL=info", "PITBOSS_POOLS_A_WORKER=1", "PITBOSS_SOKCET=/x"}},
	{name: "unknown variable far", files: one(""), environ: []string{"PITBOSS_COLOUR=red", "PITBOSS_POOLS_A_COLOUR=red", "PITBOSS_POOLS_ZEBRA_COLOUR=red"}},
	{name: "variable without pools", files: files{"pitboss.yaml": ""}, environ: []string{"PITBOSS_POOLS_DEFAULT_WORKERS=2"}},
	{name: "bad value of a variable", files: one("start: spawn"), environ: []string{"PITBOSS_POOLS_A_WORKERS=many", "PITBOSS_POOLS_A_QUEUE_MAX=-1", "PITBOSS_LOG_LEVEL=loud"}},
	{name: "variables against a file", files: one("heartbeat: {timeout: 5s}"), environ: []string{"PITBOSS_POOLS_A_HEARTBEAT_INTERVAL=4s"}},
	{name: "variable that is refused", files: one(""), environ: []string{"PITBOSS_POOLS_A_NAME=b", "PITBOSS_POOLS_A_ENV_TOKEN=x", "PITBOSS_POOLS_A_SLOTS=2", "PITBOSS_TELEMETRY_LISTEN=:1"}},
	{name: "variable of two pools", files: files{"pitboss.yaml": "pools:\n  - {name: a-b, adapter: tools.py}\n  - {name: a_b, adapter: tools.py}\n"},
		environ: []string{"PITBOSS_POOLS_A_B_WORKERS=2"}},
}

// one is a file with one pool, sound but for this line.
func one(line string) files {
	return files{"pitboss.yaml": "pools:\n  - name: a\n    adapter: tools.py\n    " + line + "\n"}
}

// lay writes the files and an adapter into a new directory.
func lay(t *testing.T, f files) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range f {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), text, 0o600)
	}
	write(t, filepath.Join(dir, "tools.py"), "", 0o600)
	return dir
}

// columnOfTemplate counts from the beginning of the expanded path, whose length is the directory's.
var columnOfTemplate = regexp.MustCompile(`value:1:\d+`)

func TestWhatIsSaidOfEachMistake(t *testing.T) {
	var b strings.Builder
	for _, m := range mistakes {
		dir := lay(t, m.files)
		_, _, err := LoadAll(filepath.Join(dir, "pitboss.yaml"), m.environ)
		if err == nil {
			t.Errorf("%s: no fault", m.name)
			continue
		}
		b.WriteString("== " + m.name + "\n")
		for _, name := range slices.Sorted(maps.Keys(m.files)) {
			b.WriteString("-- " + name + "\n" + m.files[name])
		}
		for _, entry := range m.environ {
			b.WriteString("-- $" + entry + "\n")
		}
		said := strings.ReplaceAll(err.Error(), dir, "DIR")
		b.WriteString("-- says\n" + columnOfTemplate.ReplaceAllString(said, "value:1:COLUMN") + "\n\n")
	}
	const golden = "testdata/config_faults.txt"
	if *updateGolden {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, golden, b.String(), 0o644)
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, wanted := strings.Split(b.String(), "\n\n"), strings.Split(string(want), "\n\n")
	for i := range max(len(got), len(wanted)) {
		if i >= len(got) || i >= len(wanted) {
			t.Fatalf("%d mistakes, %d in the golden file; -update writes it", len(got), len(wanted))
		}
		if got[i] != wanted[i] {
			t.Errorf("got\n%s\nwant\n%s", got[i], wanted[i])
		}
	}
}

// A file on its own, of whatever bytes, is a configuration or faults that each have their place.
func FuzzLoad(f *testing.F) {
	for _, m := range mistakes {
		for _, text := range m.files {
			f.Add([]byte(text))
		}
	}
	f.Add([]byte(DefaultsYAML()))
	f.Add([]byte("a: &x {b: *x}\n<<: *x\npools: !!binary ''\n? {a: b}\n: c\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, err := parseConfig("any.yaml", text)
		if err == nil {
			return
		}
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok {
			t.Fatalf("%T: %v", err, err)
		}
		for _, one := range joined.Unwrap() {
			if fault, ok := one.(Fault); !ok || fault.File != "any.yaml" || fault.Line < 1 || fault.Column < 1 || fault.Problem == "" {
				t.Errorf("without its place: %#v", one)
			}
		}
	})
}
