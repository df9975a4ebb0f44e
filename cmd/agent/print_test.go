package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pitboss-run/pitboss/agent"
	"github.com/pitboss-run/pitboss/agent/client"
	"google.golang.org/grpc/codes"
)

func TestOutcomesForPeople(t *testing.T) {
	began, code := time.Unix(1, 0).UTC(), 3
	for _, c := range []struct {
		o    agent.Outcome
		want []string
	}{
		{agent.Outcome{State: "queued", QueuedS: 1.2345}, []string{"call    7 of p/t, came in 1970-01-01T00:00:01Z", "state   waits in the queue, for 1.23s so far"}},
		{agent.Outcome{State: "running", Worker: "p-0.1", QueuedS: 0.0000004, RanS: 12.6},
			[]string{"state   runs on p-0.1, for 13s so far, after 400ns in the queue"}},
		{agent.Outcome{State: "ended", EndedBy: "queue", Reason: "CALL_TIMEOUT", Message: "too late", QueuedS: 0.0123456},
			[]string{"state   ended before it began, after 12.35ms", "reason  CALL_TIMEOUT: too late", "effects none: the tool did not run"}},
		{agent.Outcome{State: "ended", EndedBy: "kill", Began: &began, Worker: "p-0.1", Reason: "WORKER_DIED", MayHaveRun: true, Traceback: "Traceback\n",
			PostMortem: &agent.PostMortem{Code: &code, Uptime: "5s", Calls: 9, MaxRSSKB: 2048, CleanUpMS: 1.5, Output: []string{"last", "words"}}},
			[]string{"state   ended with its worker's process on p-0.1", "effects possible: the tool ran, or may have", ", up 5s, calls 9, peak memory 2 MiB, cleaned up in 1.5ms",
				"output  last\noutput  words\n", "\nTraceback\n"}},
	} {
		c.o.Call, c.o.Pool, c.o.Tool, c.o.CameIn = 7, "p", "t", began
		var b bytes.Buffer
		printOutcome(screen{Writer: &b}, c.o)
		for _, want := range c.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("no %q in\n%s", want, &b)
			}
		}
		if ended := strings.Contains(b.String(), "effects "); ended != (c.o.State == "ended") {
			t.Errorf("effects of a call that is %s:\n%s", c.o.State, &b)
		}
	}
}

// fullDisk takes nothing more.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestLinesAndEventsForPeople(t *testing.T) {
	var b bytes.Buffer
	g := &global{stdout: &b}
	at := time.Now()
	for _, l := range []client.Line{{Time: at, Pool: "p", Worker: "launcher", Stream: "stderr", Text: "hello"}, {Time: at, Worker: "p-0.1", Stream: "stdout", Call: 7, Text: "hi"}} {
		must(t, g.printLine(l))
	}
	must(t, g.printEvent(client.Event{Time: at, Name: "worker.ready", Fields: json.RawMessage(`{"n":1,"text":"two words","empty":"","lines":"a\nb","big":12345678901234567890}`)}))
	stamp := at.Local().Format(shownTime)
	want := stamp + "  [p/launcher stderr] hello\n" + stamp + "  [p-0.1 call 7 stdout] hi\n" +
		stamp + "  worker.ready           n=1 text=\"two words\" empty=\"\" lines=\"a …\" big=12345678901234567890\n"
	if b.String() != want {
		t.Errorf("%s\nwant\n%s", &b, want)
	}
	for _, text := range []string{"", `{"a"`, `{"a":}`, `{1:2}`} {
		var coded *codeError
		if err := g.printEvent(client.Event{Seq: 9, Fields: json.RawMessage(text)}); !errors.As(err, &coded) || coded.code != exitInternal || !strings.Contains(err.Error(), "cannot read event 9: ") {
			t.Errorf("%q: %v", text, err)
		}
	}
	g.stdout = fullDisk{}
	for _, json := range []bool{false, true} {
		if g.json = json; !errors.Is(g.printLine(client.Line{}), errPrinting) {
			t.Errorf("nothing was printed, and that is no error; JSON %t", json)
		}
	}
	if err := printValue(g, client.Value{JSON: []byte("1")}, true); err == nil || err.Error() != "cannot print the result: disk full" {
		t.Errorf("%v", err)
	}
}

func TestReportOfEveryKindOfError(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		want []string
	}{
		{nil, exitOK, nil},
		{fail(exitConfig, "do this", "cannot %s", "x"), exitConfig, []string{"pitboss: cannot x\n  do this\n"}},
		{&codeError{code: exitInterrupted}, exitInterrupted, nil},
		{context.Canceled, exitInterrupted, nil},
		{errors.New("unheard of"), exitInternal, []string{"pitboss: unheard of\n"}},
		{&client.Error{Reason: "FROM_THE_FUTURE", Code: codes.Internal, Message: "m", Traceback: "Traceback\n\n"}, exitInternal, []string{"Traceback\npitboss: FROM_THE_FUTURE: m\n"}},
		{&agent.Error{Reason: agent.PoolFailed, Message: "m"}, exitUnavailable, []string{"mend the adapter and run it again"}},
	} {
		var b bytes.Buffer
		code := report(&b, c.err)
		if code != c.code || (len(c.want) == 0) != (b.Len() == 0) {
			t.Errorf("%v: code %d, want %d: %s", c.err, code, c.code, &b)
		}
		for _, want := range c.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%v: no %q in %s", c.err, want, &b)
			}
		}
	}
}

// lostInput is a standard input that fails.
type lostInput struct{}

func (lostInput) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestArgumentsThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-"}, exitArguments, "cannot read the arguments: unexpected EOF"},
		{[]string{"a=1", "a=2"}, exitUsage, `the argument "a" is given twice`},
		{[]string{"=1"}, exitUsage, `cannot understand the argument "=1"`},
		{[]string{"a"}, exitUsage, `cannot understand the argument "a"`},
		{[]string{`{"a":}`}, exitArguments, "the arguments are not JSON: "},
		{[]string{"a=@" + t.TempDir()}, exitArguments, `cannot read the file of argument "a": `},
	} {
		v, err := parseArguments(c.args, nil, lostInput{})
		var coded *codeError
		if !errors.As(err, &coded) || coded.code != c.code || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q: %s %v", c.args, v.JSON, err)
		}
	}
	file := t.TempDir() + "/none/out"
	if err := writeBytes(file, client.Value{JSON: []byte(`{"$part":0}`), Parts: [][]byte{{1}}}); err == nil || !strings.HasPrefix(err.Error(), "cannot write the result: open "+file) {
		t.Errorf("%v", err)
	}
}

func TestALastDeathIsOneLine(t *testing.T) {
	got := lastDeath(&agent.DeathCertificate{AgentPID: 9, Cause: "signal SIGKILL", EmptyUS: 12345, Killed: 3, SurvivorCount: 0, Proof: "echild"})
	if want := "last death: agent pid 9, signal SIGKILL; empty after 12ms, 3 killed, 0 left (proof echild)"; got != want {
		t.Errorf("%s", got)
	}
}
