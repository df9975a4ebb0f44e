package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// NewLog opens the log on standard error as the configuration says. format auto is the journal where standard error leads there
// (JOURNAL_STREAM, systemd.exec(5)), text on a terminal, JSON elsewhere. The writer must be closed at the end.
func NewLog(c LogConfig) (*slog.Logger, *LogWriter) {
	const stderr = 2
	out := &stderrSink{out: ipc.NewOutput(stderr)}
	var sink logSink = out
	format := c.Format
	if format == "auto" {
		native, err := journal.StderrIsJournalStream()
		switch {
		case native && err == nil:
			format = "journald"
		case term.IsTerminal(stderr):
			format = "text"
		default:
			format = "json"
		}
	}
	if format == "journald" {
		sink = &journalSink{fallback: out}
	}
	w := newLogWriter(sink, logRoom)
	return slog.New(newLogHandler(c, format, w)), w
}

// logHandler makes entries of records.
type logHandler struct {
	slog.Handler // of text or JSON, into buffer
	shared       *logBuffer
	journal      bool
	fields       map[string]string // of WithAttrs; journal only
	prefix       string            // of WithGroup; journal only
}

// logBuffer is what the text handler of a logger and of all that are derived from it write into.
type logBuffer struct {
	mu     sync.Mutex // one record at a time
	buffer bytes.Buffer
	writer *LogWriter
}

func newLogHandler(c LogConfig, format string, w *LogWriter) *logHandler {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // validated with the configuration
	shared := &logBuffer{writer: w}
	options := &slog.HandlerOptions{Level: level}
	h := &logHandler{shared: shared, journal: format == "journald"}
	switch format {
	case "json":
		h.Handler = slog.NewJSONHandler(&shared.buffer, options)
	case "journald": // the journal has its own time, priority and message
		options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
				return slog.Attr{}
			}
			return a
		}
		h.Handler = slog.NewTextHandler(&shared.buffer, options)
	default:
		h.Handler = slog.NewTextHandler(&shared.buffer, options)
	}
	return h
}

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	h.shared.mu.Lock()
	h.shared.buffer.Reset()
	err := h.Handler.Handle(ctx, r)
	e := logEntry{text: bytes.Clone(h.shared.buffer.Bytes())}
	h.shared.mu.Unlock()
	if err != nil {
		return err
	}
	if h.journal {
		e.priority = priorityOf(r.Level)
		e.message = strings.TrimRight(r.Message+" "+string(e.text), "\n ")
		e.text = nil
		e.fields = map[string]string{"SYSLOG_IDENTIFIER": "pitboss"}
		for k, v := range h.fields {
			e.fields[k] = v
		}
		r.Attrs(func(a slog.Attr) bool { addField(e.fields, h.prefix, a); return true })
		if id := messageID(e.fields); id != "" {
			e.fields["MESSAGE_ID"] = id
		}
	}
	h.shared.writer.add(e)
	return nil
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.Handler = h.Handler.WithAttrs(attrs)
	next.fields = map[string]string{}
	for k, v := range h.fields {
		next.fields[k] = v
	}
	for _, a := range attrs {
		addField(next.fields, h.prefix, a)
	}
	return &next
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	next := *h
	next.Handler = h.Handler.WithGroup(name)
	next.prefix = h.prefix + name + "_"
	return &next
}

// addField names an attribute as the journal wants it: PITBOSS_ and capitals, digits and underscores (systemd.journal-fields(7)).
func addField(fields map[string]string, prefix string, a slog.Attr) {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "_"
		}
		for _, inner := range value.Group() {
			addField(fields, prefix, inner)
		}
		return
	}
	name := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return c
		}
		return '_'
	}, prefix+a.Key)
	fields["PITBOSS_"+name] = value.String()
}

// priorityOf is a level as syslog(3) numbers it.
func priorityOf(level slog.Level) int {
	switch {
	case level >= slog.LevelError:
		return int(journal.PriErr)
	case level >= slog.LevelWarn:
		return int(journal.PriWarning)
	case level >= slog.LevelInfo:
		return int(journal.PriInfo)
	}
	return int(journal.PriDebug)
}

// stderrSink writes text to a descriptor that others write to as well.
type stderrSink struct{ out *ipc.Output }

// waitSlice is how long one wait for room lasts, in milliseconds: then stop is looked at.
const waitSlice = 100

func (s *stderrSink) put(e logEntry, stop <-chan struct{}) error {
	for rest := e.text; len(rest) > 0; {
		n, err := s.out.Write(rest)
		if n > 0 {
			rest = rest[n:]
		}
		switch {
		case err == unix.EAGAIN:
			select {
			case <-stop:
				return err
			default:
			}
			if _, err := s.out.Wait(waitSlice); err != nil {
				return err
			}
		case err != nil && err != unix.EINTR:
			return err
		}
	}
	return nil
}

// journalSink sends entries to the journal with their fields, and where that is impossible writes lines with a priority in
// front (sd-daemon(3)), which the journal takes from standard error.
type journalSink struct{ fallback *stderrSink }

func (s *journalSink) put(e logEntry, stop <-chan struct{}) error {
	if e.message == "" { // no record
		return s.fallback.put(e, stop)
	}
	if journal.Send(e.message, journal.Priority(e.priority), e.fields) == nil {
		return nil
	}
	line := fmt.Appendf(nil, "<%s>%s\n", strconv.Itoa(e.priority), strings.ReplaceAll(e.message, "\n", " "))
	return s.fallback.put(logEntry{text: line}, stop)
}

// PatientStderr is standard error for the last words of a process that must end: a reader that does not read holds it up for
// logPatience at most, and loses the rest.
func PatientStderr() io.Writer { return &patientWriter{&stderrSink{out: ipc.NewOutput(2)}} }

type patientWriter struct{ sink *stderrSink }

func (w *patientWriter) Write(text []byte) (int, error) {
	stop := make(chan struct{})
	timer := time.AfterFunc(logPatience, func() { close(stop) })
	defer timer.Stop()
	if err := w.sink.put(logEntry{text: text}, stop); err != nil {
		return 0, err
	}
	return len(text), nil
}
