package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// keptEvents is how many of the last events an agent keeps.
const keptEvents = 1000

// Event is one thing that happened.
type Event struct {
	Seq    uint64
	Time   time.Time
	Name   string
	Fields []slog.Attr // as the registry lists them
	Lost   uint64      // not 0: no event, but so many that a follower was too slow for; the rest is empty
}

// event is an Event before it has a number.
type event struct {
	kind   *eventKind
	fields []slog.Attr
}

// strictEvents makes emit panic where an event does not fit the registry. Tests set it before anything runs.
var strictEvents bool

// emit publishes an event and writes its line to the log: one call, so that the two never differ. It waits for
// nothing, if the log's writer does not (LogWriter), and may be called with any lock of the agent held.
func (a *Agent) emit(kind *eventKind, fields ...slog.Attr) {
	if strictEvents {
		if err := kind.check(fields); err != nil {
			panic(err)
		}
	}
	a.events.publish(event{kind, fields})
	if ctx := context.Background(); a.log.Enabled(ctx, kind.level) {
		a.log.LogAttrs(ctx, kind.level, kind.text, append([]slog.Attr{slog.String("event", kind.name)}, fields...)...)
	}
}

// emit is the same for what happens to a pool: its name is the first field.
func (p *pool) emit(kind *eventKind, fields ...slog.Attr) {
	p.agent.emit(kind, append([]slog.Attr{slog.String("pool", p.name)}, fields...)...)
}

// emit is the same for what happens to a worker: its pool and its id are the first fields.
func (w *worker) emit(kind *eventKind, fields ...slog.Attr) {
	w.pool.emit(kind, append([]slog.Attr{slog.String("worker", w.id)}, fields...)...)
}

// LogLost says in the log and the events that lines of the log were lost: LogWriter.OnLost takes it.
func (a *Agent) LogLost(lines uint64) { a.emit(logDropped, slog.Int64("lines", int64(lines))) }

// check says what of an emission is not in the registry.
func (k *eventKind) check(fields []slog.Attr) error {
	for _, f := range fields {
		spec := k.field(f.Key)
		if spec == nil {
			return fmt.Errorf("event %s has no field %q", k.name, f.Key)
		}
		if spec.kind != f.Value.Kind() {
			return fmt.Errorf("field %q of event %s is %s, not %s", f.Key, k.name, spec.kind, f.Value.Kind())
		}
	}
	return nil
}

func (k *eventKind) field(name string) *eventField {
	for i := range k.fields {
		if k.fields[i].name == name {
			return &k.fields[i]
		}
	}
	return nil
}

// seconds is a duration as a field; its name ends in _s.
func seconds(name string, d time.Duration) slog.Attr {
	return slog.Float64(name, d.Round(time.Microsecond).Seconds())
}

// WatchEvents hands the kept events whose name begins with prefix to take, oldest first, and with follow those that come,
// until ctx or the agent ends or take fails. A prefix that no registered event has is an *Error.
func (a *Agent) WatchEvents(ctx context.Context, follow bool, prefix string, take func(Event) error) error {
	if err := checkPrefix(prefix); err != nil {
		return err
	}
	return a.events.each(ctx.Done(), follow, func(e entry[event]) error {
		if !strings.HasPrefix(e.value.kind.name, prefix) {
			return nil
		}
		return take(Event{Seq: e.seq, Time: e.time, Name: e.value.kind.name, Fields: e.value.fields})
	}, func(n uint64) error { return take(Event{Lost: n}) })
}

// checkPrefix refuses a prefix that no event of this agent can have.
func checkPrefix(prefix string) error {
	var words []string // the first word of each
	for _, name := range EventNames() {
		if strings.HasPrefix(name, prefix) {
			return nil
		}
		word, _, _ := strings.Cut(name, ".")
		if word += "."; len(words) == 0 || words[len(words)-1] != word {
			words = append(words, word)
		}
	}
	return failf(BadArguments, "no event's name begins with %q%s; events begin with %s", prefix, nearName(prefix, append(EventNames(), words...)), strings.Join(words, " "))
}

// FieldsJSON is the fields as one JSON object, in their order.
func (e Event) FieldsJSON() (string, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, f := range e.Fields {
		if i > 0 {
			b.WriteByte(',')
		}
		value, err := json.Marshal(f.Value.Any())
		if err != nil {
			return "", fmt.Errorf("cannot encode field %q of event %s: %w", f.Key, e.Name, err)
		}
		fmt.Fprintf(&b, "%q:%s", f.Key, value)
	}
	b.WriteByte('}')
	return b.String(), nil
}
