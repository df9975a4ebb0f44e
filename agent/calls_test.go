package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// explained waits for the outcome of a call: its client may hear of the end a moment before it is recorded.
func explained(t *testing.T, a *Agent, call uint64, reason string) Outcome {
	t.Helper()
	o, err := a.Explain(call)
	if err != nil || o.State != "ended" || o.Reason != reason || o.Call != call || o.Tool == "" || o.Pool != "default" {
		t.Fatalf("call %d: %+v %v", call, o, err)
	}
	return o
}

func TestOutcomesSayHowEachCallEnded(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	waitReady(t, a)
	r, err := a.Call(within(t, 20*time.Second), request("add", `{"a":1,"b":2}`))
	if err != nil {
		t.Fatal(err)
	}
	if o := explained(t, a, r.Call, reasonOK); o.EndedBy != "result" || !o.MayHaveRun || o.Worker != r.Worker || o.Began == nil || o.RanS <= 0 || o.CameIn.After(*o.Began) {
		t.Errorf("%+v", o)
	}
	e := callFails(t, a, request("raises", `{}`), ToolRaised)
	if o := explained(t, a, e.Call, "TOOL_RAISED"); o.EndedBy != "exception" || !o.MayHaveRun || !strings.Contains(o.Traceback, "on purpose") || o.PostMortem != nil {
		t.Errorf("%+v", o)
	}
	e = callFails(t, a, request("add", `{}`), BadArguments)
	if o := explained(t, a, e.Call, "BAD_ARGUMENTS"); o.EndedBy != "exception" || o.MayHaveRun {
		t.Errorf("%+v", o)
	}
	e = callFails(t, a, request("segfault", `{}`), WorkerDied)
	o := explained(t, a, e.Call, "WORKER_DIED")
	if pm := o.PostMortem; o.EndedBy != "kill" || !strings.Contains(o.Traceback, "in segfault") || pm == nil || pm.Call != e.Call || pm.Tool != "segfault" ||
		pm.Signal != "SIGSEGV" || pm.Killer != "" || pm.Calls != 4 || pm.MaxRSSKB < 1<<10 {
		t.Errorf("%+v %+v", o, o.PostMortem)
	}
	await(t, 10*time.Second, "told the clean-up time", func() bool {
		o, err := a.Explain(e.Call)
		return err == nil && o.PostMortem.CleanUpMS > 0 && o.PostMortem.CleanUpMS < 10_000
	})
	wantReason(t, func() error { _, err := a.Explain(e.Call + 1000); return err }(), UnknownCall)
	if left := a.outcomes.list(); len(left) != 0 {
		t.Errorf("%d calls are still open", len(left))
	}
}

func TestARunningCallIsListedExplainedAndCancelled(t *testing.T) {
	a := startTestAgent(t, testTools, nil)
	waitReady(t, a)
	running := begin(t, a, request("deadlock", `{}`))
	id := runs(t, a)
	await(t, 20*time.Second, "in the tool", func() bool {
		text, _ := a.Stack(within(t, 10*time.Second), id)
		return strings.Contains(text, "in deadlock")
	})
	file := filepath.Join(t.TempDir(), "ran")
	queuedCall := begin(t, a, request("escape", fmt.Sprintf(`{"file":%q,"die":false}`, file)))
	await(t, 10*time.Second, "queued", func() bool { return queued(a) == 1 })
	calls, err := a.Calls("default")
	if err != nil || len(calls) != 2 || calls[0].State != "running" || calls[0].Worker != id || calls[0].Tool != "deadlock" ||
		calls[1].State != "queued" || calls[1].Worker != "" || calls[1].Call <= calls[0].Call || calls[0].Age < calls[1].Age || calls[1].Left <= 0 {
		t.Fatalf("%+v %v", calls, err)
	}
	for i, state := range []string{"running", "queued"} {
		if o, err := a.Explain(calls[i].Call); err != nil || o.State != state || o.Reason != "" || o.EndedBy != "" {
			t.Errorf("%+v %v", o, err)
		}
	}
	_, err = a.Calls("elsewhere")
	wantReason(t, err, UnknownPool)

	if by, err := a.CancelCall(calls[1].Call); by != "queue" || err != nil {
		t.Errorf("%q %v", by, err)
	}
	e := wantReason(t, (<-queuedCall).err, CancelledByAdmin)
	neverRan(t, file, e)
	if o := explained(t, a, e.Call, "ADMIN"); o.EndedBy != "queue" || o.MayHaveRun || o.Began != nil {
		t.Errorf("%+v", o)
	}
	if workerOf(a, id) == nil {
		t.Error("the running call's worker ended with the queued call")
	}

	if by, err := a.CancelCall(calls[0].Call); by != "kill" || err != nil {
		t.Errorf("%q %v", by, err)
	}
	e = wantReason(t, (<-running).err, CancelledByAdmin)
	if !e.MayHaveRun || e.Worker != id || !strings.Contains(e.Message, "an administrator cancelled") || !strings.Contains(e.Traceback, "in deadlock") || e.PostMortem.Signal != "SIGKILL" {
		t.Errorf("%+v %+v", e, e.PostMortem)
	}
	if o := explained(t, a, e.Call, "ADMIN"); o.EndedBy != "kill" || !o.MayHaveRun || !strings.Contains(o.PostMortem.Killer, "an administrator cancelled call "+strconv.FormatUint(e.Call, 10)) {
		t.Errorf("%+v", o)
	}
	serves(t, a, 10*time.Second)
	_, err = a.CancelCall(e.Call)
	if e := wantReason(t, err, UnknownCall); !strings.Contains(e.Message, "has ended already") {
		t.Error(e)
	}
	_, err = a.CancelCall(1 << 40)
	wantReason(t, err, UnknownCall)
}

// A call cancelled while calls come and go ends as cancelled or as answered, never both and never twice; its neighbours are unharmed.
func TestCancelsRaceWithAnswers(t *testing.T) {
	a := startTestAgent(t, testTools, two)
	waitReady(t, a)
	for range 15 {
		target, other := begin(t, a, request("pause", `{"seconds":0.01}`)), begin(t, a, request("pause", `{"seconds":0.02}`))
		var call uint64
		await(t, 30*time.Second, "known", func() bool {
			calls, _ := a.Calls("")
			for _, c := range calls {
				call = c.Call
			}
			return len(calls) > 0 || len(target)+len(other) == 2
		})
		by, cancelErr := "", error(nil)
		if call != 0 {
			by, cancelErr = a.CancelCall(call)
		}
		cancelled := 0
		for _, o := range []outcome{<-target, <-other} {
			if o.err == nil {
				continue
			}
			cancelled++
			if e := wantReason(t, o.err, CancelledByAdmin); e.Call != call || by == "" || cancelErr != nil {
				t.Errorf("cancelled %d by %q (%v), and %+v ended", call, by, cancelErr, e)
			}
		}
		if (by != "") != (cancelled == 1) {
			t.Errorf("cancelled %d by %q (%v), and %d calls ended so", call, by, cancelErr, cancelled)
		}
	}
	serves(t, a, 20*time.Second)
}

// cLoop holds the interpreter in C for hours, without a system call that a signal could end.
const cLoop = `
@pitboss.tool
def c_loop() -> int:
    return sum(range(10**13))
`

func TestStacksOfALivingWorker(t *testing.T) {
	for _, tool := range []string{"deadlock", "c_loop"} {
		t.Run(tool, func(t *testing.T) {
			a := startTestAgent(t, testTools+cLoop, nil)
			waitReady(t, a)
			running := begin(t, a, request(tool, `{}`))
			id := runs(t, a)
			// The call is assigned a moment before it runs.
			await(t, 20*time.Second, "in the tool", func() bool {
				text, err := a.Stack(within(t, 20*time.Second), id)
				return err == nil && strings.Contains(text, "in "+tool)
			})
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() {
					text, err := a.Stack(within(t, 20*time.Second), id)
					if err != nil || strings.Count(text, ownStack) != 1 || strings.Count(text, "in "+tool) != 1 || strings.Contains(text, "_control.py") {
						t.Errorf("%v\n%s", err, text)
					}
				})
			}
			both.Wait()
			if len(running) != 0 || workerOf(a, id).InFlight != 1 {
				t.Error("the call ended")
			}
			// Its post-mortem knows nothing of those stacks: nobody dumps one before a kill from outside.
			if err := syscall.Kill(workerOf(a, id).PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if e := wantReason(t, (<-running).err, WorkerDied); e.PostMortem.Stack != "" {
				t.Errorf("an old stack is in the post-mortem:\n%s", e.PostMortem.Stack)
			}
		})
	}
}

// A stopped worker cannot write; the dump that it owes goes to who asks next, and into no post-mortem.
func TestAStoppedWorkerOwesItsStack(t *testing.T) {
	a := startTestAgent(t, testTools, func(p *PoolConfig) { p.Heartbeat.Enabled = false })
	waitReady(t, a)
	running := begin(t, a, request("pause", `{"seconds":600}`))
	id := runs(t, a)
	pid := workerOf(a, id).PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	_, err := a.Stack(within(t, 200*time.Millisecond), id)
	if e := wantReason(t, err, CallTimeout); !strings.Contains(e.Message, "it is stopped") {
		t.Error(e)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if text, err := a.Stack(within(t, 20*time.Second), id); err != nil || strings.Count(text, ownStack) != 1 {
		t.Errorf("%v\n%s", err, text)
	}
	if err := syscall.Kill(pid, syscall.SIGSEGV); err != nil {
		t.Fatal(err)
	}
	e := wantReason(t, (<-running).err, WorkerDied)
	if stack := e.PostMortem.Stack; !strings.HasPrefix(stack, "Fatal Python error: ") || strings.Count(stack, "Current thread ") != 1 {
		t.Errorf("%s", stack)
	}
	_, err = a.Stack(within(t, time.Second), "default-0.7777")
	wantReason(t, err, UnknownWorker)
}

func TestLastDump(t *testing.T) {
	const one = ownStack + "\n  File \"a\", line 2 in g\n"
	const two = ownStack + "\n  File \"a\", line 3 in h\n"
	for _, c := range []struct {
		text string
		owed bool
		want string
	}{{one, false, one}, {one, true, ""}, {one + two, true, two}, {"", true, ""}, {one + "Fatal Python error: Aborted\n\n" + two, true, "Fatal Python error: Aborted\n\n" + two}} {
		if got := lastDump(c.text, c.owed); got != c.want {
			t.Errorf("%q (owed %t): %q", c.text, c.owed, got)
		}
	}
	if wholeDump(one[:len(one)-5]) || wholeDump("Thread 0x01 (most recent call first):\n  File \"a\", line 1 in f\n") || !wholeDump(one) {
		t.Error("a half dump counts as whole, or a whole one does not")
	}
}

func TestOutcomesAreBounded(t *testing.T) {
	o := newOutcomes(3)
	p := &pool{name: strings.Repeat("p", 63)}
	long := strings.Repeat("ä", 1<<20)
	fail := &Error{Reason: WorkerDied, Message: long, Traceback: long, PostMortem: &PostMortem{Killer: long, Evidence: long, Tool: long, Stack: long, Output: []string{long, "last"}}}
	for id := range uint64(5) {
		ticket := &ticket{id: id + 1, pool: p, tool: long, came: time.Now()}
		o.begin(ticket)
		o.end(ticket, ticketPlace{worker: "w", began: time.Now()}, fail)
	}
	for id := range uint64(5) {
		open, out := o.find(id + 1)
		if open != nil || (out != nil) != (id >= 2) {
			t.Errorf("call %d: %v", id+1, out)
		}
		if out == nil {
			continue
		}
		text, err := json.Marshal(out)
		if err != nil || len(text) > 6<<10 {
			t.Errorf("an outcome holds %d bytes (%v)", len(text), err)
		}
		if output := out.PostMortem.Output; len(output) != 2 || output[1] != "last" {
			t.Errorf("%.100q", output)
		}
	}
	// The caller's own error is not cut.
	if len(fail.Message) != len(long) || len(fail.PostMortem.Output[0]) != len(long) {
		t.Error("the caller's error was changed")
	}
}

func TestCatchesSeesAHandler(t *testing.T) {
	// The Go runtime handles SIGSEGV and nobody handles KILL.
	if !catches(os.Getpid(), int(syscall.SIGSEGV)) || catches(os.Getpid(), int(syscall.SIGKILL)) || catches(1<<30, int(syscall.SIGSEGV)) {
		t.Error("the mask of caught signals is read wrongly")
	}
}
