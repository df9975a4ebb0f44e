package agent

import (
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// catalogEntry is one entry of packaging/catalog.
type catalogEntry struct {
	header map[string]string
	text   string
}

// catalogEntries reads a catalog (systemd.io/CATALOG) by MESSAGE_ID.
func catalogEntries(t *testing.T, text string) map[string]catalogEntry {
	t.Helper()
	entries := map[string]catalogEntry{}
	for _, part := range strings.Split("\n"+text, "\n-- ")[1:] {
		id, rest, _ := strings.Cut(part, "\n")
		head, body, _ := strings.Cut(rest, "\n\n")
		e := catalogEntry{map[string]string{}, body}
		for _, line := range strings.Split(head, "\n") {
			name, value, ok := strings.Cut(line, ": ")
			if !ok {
				t.Errorf("%s: bad header line %q", id, line)
			}
			e.header[name] = value
		}
		if _, twice := entries[id]; twice {
			t.Errorf("%s is there twice", id)
		}
		entries[id] = e
	}
	return entries
}

// TestTheCatalogExplainsWhatItShould: exactly the events of the registry that deserve it, each by its own MESSAGE_ID, with cause,
// effect and the next command, and with fields that the event has.
func TestTheCatalogExplainsWhatItShould(t *testing.T) {
	file, err := os.ReadFile("../packaging/catalog/pitboss.catalog")
	if err != nil {
		t.Fatal(err)
	}
	entries := catalogEntries(t, string(file))
	id, field, command := regexp.MustCompile(`^[0-9a-f]{32}$`), regexp.MustCompile(`@PITBOSS_([A-Z_]+)@`), regexp.MustCompile("`pitboss ([a-z]+(?: [a-z]+)?)")
	seen := map[string]string{}
	for _, c := range catalogue {
		name := c.kind.name
		if !id.MatchString(c.id) || seen[c.id] != "" || !slices.Contains(eventKinds, c.kind) || (c.when == "") != (c.deserves == nil) {
			t.Errorf("%s: bad row, or the id of %q: %+v", name, seen[c.id], c)
		}
		seen[c.id] = name
		e, ok := entries[c.id]
		if !ok {
			t.Errorf("%s (%s) is not in the catalog", name, c.id)
			continue
		}
		for _, key := range []string{"Subject", "Defined-By", "Support", "Documentation"} {
			if e.header[key] == "" {
				t.Errorf("%s: no %s", name, key)
			}
		}
		for _, word := range []string{"Cause: ", "\n\nEffect: ", "\n\nNext: "} {
			if !strings.Contains(e.text, word) {
				t.Errorf("%s: no %q", name, word)
			}
		}
		for _, f := range field.FindAllStringSubmatch(e.header["Subject"]+e.text, -1) {
			if c.kind.field(strings.ToLower(f[1])) == nil {
				t.Errorf("%s has no field for %s", name, f[0])
			}
		}
		commands := command.FindAllStringSubmatch(e.text, -1)
		if len(commands) == 0 {
			t.Errorf("%s: no command of pitboss to go on with", name)
		}
		for _, f := range commands {
			if _, err := os.Stat("../packaging/man/pitboss-" + strings.ReplaceAll(f[1], " ", "-") + ".1"); err != nil {
				t.Errorf("%s: %q has no man page: %v", name, f[0], err)
			}
		}
	}
	if len(entries) != len(catalogue) {
		t.Errorf("%d entries for %d events", len(entries), len(catalogue))
	}
}

// TestMessageIDs of emissions: those that somebody must act on have one, the same events on an ordinary day have none.
func TestMessageIDs(t *testing.T) {
	call, evidence, end := slog.Int("call", 7), slog.String("evidence", "the kernel's out-of-memory killer"), func(how string) slog.Attr { return slog.String("end", how) }
	for _, c := range []struct {
		kind   *eventKind
		fields []slog.Attr
		want   bool
	}{
		{agentDied, nil, true},
		{agentReloadFailed, nil, true},
		{agentReloaded, nil, false},
		{workerReady, nil, false},
		{poolState, []slog.Attr{slog.String("from", "starting"), slog.String("to", "failed")}, true},
		{poolState, []slog.Attr{slog.String("from", "failed"), slog.String("to", "ready")}, false},
		{workerExited, []slog.Attr{end("exited with code 0")}, false},
		{workerExited, []slog.Attr{end("exited with code 0 (recycled: max_calls)")}, false},
		{workerExited, []slog.Attr{end("died by SIGTERM (still running after the drain)")}, false},
		{workerExited, []slog.Attr{end("exited with code 3")}, true},
		{workerExited, []slog.Attr{end("died by SIGSEGV")}, true},
		{workerExited, []slog.Attr{end("died by SIGKILL (call 7 did not end)"), call}, true},
		{workerExited, []slog.Attr{end("exited with code 0"), call}, true},
		{workerExited, []slog.Attr{end("died by SIGKILL (lost)"), evidence}, true},
	} {
		sink := &gateSink{tokens: make(chan struct{}, 1)}
		sink.tokens <- struct{}{}
		w := newLogWriter(sink, logRoom)
		a := &Agent{events: newFeed[event](10, 0, nil), log: slog.New(newLogHandler(LogConfig{Level: "debug"}, "journald", w))}
		a.emit(c.kind, c.fields...)
		w.Close()
		id := sink.got[0].fields["MESSAGE_ID"]
		if (id != "") != c.want {
			t.Errorf("%s %v: MESSAGE_ID %q", c.kind.name, c.fields, id)
		}
		for _, k := range catalogue {
			if k.id == id && k.kind != c.kind {
				t.Errorf("%s has the MESSAGE_ID of %s", c.kind.name, k.kind.name)
			}
		}
	}
}
