package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/ipc"
	"golang.org/x/sys/unix"
)

// gateSink takes an entry for each token, and keeps them.
type gateSink struct {
	tokens chan struct{}
	mu     sync.Mutex
	got    []logEntry
}

func (s *gateSink) put(e logEntry, stop <-chan struct{}) error {
	select {
	case <-s.tokens:
	case <-stop:
		return errors.New("stopped")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, e)
	return nil
}

func (s *gateSink) texts() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.got {
		all = append(all, strings.TrimSpace(string(e.text)))
	}
	return all
}

// TestAFullLogLosesWholeLinesAndSaysSo, in order, and who logs never waits.
func TestAFullLogLosesWholeLinesAndSaysSo(t *testing.T) {
	sink := &gateSink{tokens: make(chan struct{}, 100)}
	w := newLogWriter(sink, 50)
	told := make(chan int, 10)
	w.TellLosses(func(lines int) { w.Line("lost some"); told <- lines })
	for i := range 20 { // 10 bytes each; one is in the sink, or five fit
		w.Line(fmt.Sprintf("line %04d", i))
	}
	for range 20 {
		sink.tokens <- struct{}{}
	}
	lost := <-told
	w.Close()
	got := sink.texts()
	if lost < 14 || lost > 15 || len(got) != 20-lost+1 || got[len(got)-1] != "lost some" {
		t.Fatalf("%d lost, %q came", lost, got)
	}
	if lines := got[:len(got)-1]; !slices.IsSorted(lines) || slices.ContainsFunc(lines, func(text string) bool { return len(text) != len("line 0000") }) {
		t.Errorf("%q", got)
	}
	w.Line("after the end")
	w.Close()
	if len(sink.texts()) != len(got) {
		t.Error("a line came after the end")
	}
}

// TestTheLogEndsThoughNobodyReads, after its patience.
func TestTheLogEndsThoughNobodyReads(t *testing.T) {
	w := newLogWriter(&gateSink{tokens: make(chan struct{})}, logRoom)
	w.Line("one")
	began := time.Now()
	w.Close()
	if took := time.Since(began); took < logPatience || took > logPatience+5*time.Second {
		t.Errorf("it took %s", took)
	}
	select {
	case <-w.done:
	case <-time.After(time.Second):
		t.Error("its goroutine is left")
	}
}

// TestLogFormats of the same records.
func TestLogFormats(t *testing.T) {
	for format, want := range map[string][]string{
		"text": {`level=INFO msg="worker ready" event=worker.ready pool=a took.s=1.5`, `level=ERROR msg=broken run=7 g.pool=b g.deep.x=1`},
		"json": {`"level":"INFO","msg":"worker ready","event":"worker.ready","pool":"a","took":{"s":1.5}}`, `"level":"ERROR","msg":"broken","run":7,"g":{"pool":"b","deep":{"x":1}}}`},
	} {
		sink := &gateSink{tokens: make(chan struct{}, 100)}
		w := newLogWriter(sink, logRoom)
		logThese(slog.New(newLogHandler(LogConfig{Level: "info"}, format, w)))
		for range 10 {
			sink.tokens <- struct{}{}
		}
		w.Close()
		got := sink.texts()
		if len(got) != len(want) {
			t.Fatalf("%s: %q", format, got)
		}
		for i := range want {
			if !strings.HasSuffix(got[i], want[i]) {
				t.Errorf("%s: %s", format, got[i])
			}
		}
	}
}

func logThese(log *slog.Logger) {
	log.Debug("not at this level")
	log.Info("worker ready", "event", "worker.ready", "pool", "a", slog.Group("took", "s", 1.5))
	log.With("run", 7).WithGroup("g").Error("broken", "pool", "b", slog.Group("deep", "x", 1))
}

// TestJournalEntries have the fields that the journal can be asked for.
func TestJournalEntries(t *testing.T) {
	sink := &gateSink{tokens: make(chan struct{}, 100)}
	w := newLogWriter(sink, logRoom)
	logThese(slog.New(newLogHandler(LogConfig{Level: "info"}, "journald", w)))
	for range 10 {
		sink.tokens <- struct{}{}
	}
	w.Close()
	text, err := json.Marshal([]any{sink.got[0].message, sink.got[0].priority, sink.got[0].fields, sink.got[1].message, sink.got[1].priority, sink.got[1].fields})
	if err != nil {
		t.Fatal(err)
	}
	want := `["worker ready event=worker.ready pool=a took.s=1.5",6,{"PITBOSS_EVENT":"worker.ready","PITBOSS_POOL":"a","PITBOSS_TOOK_S":"1.5","SYSLOG_IDENTIFIER":"pitboss"},` +
		`"broken run=7 g.pool=b g.deep.x=1",3,{"PITBOSS_G_DEEP_X":"1","PITBOSS_G_POOL":"b","PITBOSS_RUN":"7","SYSLOG_IDENTIFIER":"pitboss"}]`
	if string(text) != want {
		t.Errorf("%s", text)
	}
	for level, priority := range map[slog.Level]int{slog.LevelDebug: 7, slog.LevelInfo: 6, slog.LevelWarn: 4, slog.LevelError: 3} {
		if priorityOf(level) != priority {
			t.Errorf("%s is %d", level, priorityOf(level))
		}
	}
}

// TestStderrSinkWaitsForRoom and writes the rest of a long line then; a broken pipe ends the wait.
func TestStderrSinkWaitsForRoom(t *testing.T) {
	r, out := fullPipe(t)
	s := &stderrSink{out: out}
	line := strings.Repeat("x", 3*ipc.MaxLine) + "\n"
	written := make(chan error, 1)
	go func() { written <- s.put(logEntry{text: []byte(line)}, nil) }()
	select {
	case err := <-written:
		t.Fatalf("written into a full pipe: %v", err)
	case <-time.After(2 * waitSlice * time.Millisecond):
	}
	got := 0
	for buffer := make([]byte, 1<<16); ; {
		n, err := unix.Read(r, buffer)
		if err != nil {
			t.Fatal(err)
		}
		got += n
		if buffer[n-1] == '\n' {
			break
		}
	}
	if err := <-written; err != nil || got < len(line) {
		t.Errorf("%d bytes, %v", got, err)
	}
	stop := make(chan struct{})
	close(stop)
	for {
		if err := s.put(logEntry{text: []byte(line)}, stop); err != nil {
			if err != unix.EAGAIN {
				t.Error(err)
			}
			break
		}
	}
	_ = unix.Close(r)
	if err := s.put(logEntry{text: []byte(line)}, nil); err != unix.EPIPE {
		t.Error(err)
	}
}

func fullPipe(t *testing.T) (r int, out *ipc.Output) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fds[1]) })
	out = ipc.NewOutput(fds[1])
	for {
		if _, err := out.Write(make([]byte, ipc.MaxLine)); err != nil {
			break
		}
	}
	return fds[0], out
}

// BenchmarkEmitToAFile is what an event costs whoever emits it, with the log at a file.
func BenchmarkEmitToAFile(b *testing.B) {
	f, err := os.CreateTemp(b.TempDir(), "log")
	if err != nil {
		b.Fatal(err)
	}
	for name, log := range map[string]func() (*slog.Logger, *LogWriter){
		"direct": func() (*slog.Logger, *LogWriter) { return slog.New(slog.NewJSONHandler(f, nil)), nil },
		"queued": func() (*slog.Logger, *LogWriter) {
			w := newLogWriter(&stderrSink{ipc.NewOutput(int(f.Fd()))}, logRoom)
			return slog.New(newLogHandler(LogConfig{Level: "info"}, "json", w)), w
		},
	} {
		b.Run(name, func(b *testing.B) {
			log, w := log()
			a := &Agent{log: log, events: newFeed[event](keptEvents, 0, nil)}
			for b.Loop() {
				a.emit(workerReady, slog.String("pool", "default"), slog.String("worker", "default-0.1"), slog.Int("pid", 17), seconds("after_s", time.Second))
			}
			if w != nil {
				w.Close()
			}
		})
	}
}
