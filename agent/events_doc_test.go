package agent

import (
	"flag"
	"log/slog"
	"os"
	"regexp"
	"testing"
)

var writeEvents = flag.Bool("events.write", false, "write docs/events.md")

// TestEventsDocument holds docs/events.md to the registry; `make gen` writes it.
func TestEventsDocument(t *testing.T) {
	const file = "../docs/events.md"
	if *writeEvents {
		if err := os.WriteFile(file, []byte(EventsMarkdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != EventsMarkdown() {
		t.Errorf("%s is not what the registry says (%v); run `make gen`", file, err)
	}
}

func TestTheRegistryIsWellFormed(t *testing.T) {
	name, field := regexp.MustCompile(`^[a-z]+(\.[a-z_]+)+$`), regexp.MustCompile(`^[a-z][a-z_]*$`)
	seen := map[string]bool{}
	for _, k := range eventKinds {
		if !name.MatchString(k.name) || seen[k.name] || k.text == "" || len(k.fields) == 0 {
			t.Errorf("bad row %+v", k)
		}
		seen[k.name] = true
		fields := map[string]bool{}
		for _, f := range k.fields {
			if !field.MatchString(f.name) || fields[f.name] || f.meaning == "" {
				t.Errorf("bad field %+v of %s", f, k.name)
			}
			fields[f.name] = true
		}
		for _, reserved := range []string{"event", slog.TimeKey, slog.LevelKey, slog.MessageKey} {
			if fields[reserved] {
				t.Errorf("%s has a field %q, which the log uses itself", k.name, reserved)
			}
		}
	}
}

func TestAnEmissionThatDoesNotFitPanics(t *testing.T) {
	a := &Agent{events: newFeed[event](10, 0, nil), log: discard()}
	for name, field := range map[string]slog.Attr{"unknown field": slog.String("colour", "red"), "wrong type": slog.String("pid", "1")} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			a.emit(workerReady, field)
		}()
	}
	if kept, _ := a.events.read(false); len(kept) != 0 {
		t.Errorf("%v were published", kept)
	}
	a.emit(workerReady, slog.Int("pid", 1))
	if kept, _ := a.events.read(false); len(kept) != 1 {
		t.Errorf("%v, want one", kept)
	}
}
