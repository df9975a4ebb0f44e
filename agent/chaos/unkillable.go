package chaos

import (
	"errors"
	"os"
	"strings"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
	"golang.org/x/sys/unix"
)

// unkillableLimit is how long a stop or the agent's death may take when somebody outlives SIGKILL: the wait for the launcher, the
// verdict, and the watchdog's own wait of 5 s, with room for a loaded host.
const unkillableLimit = 20 * time.Second

// unkillableScenarios put parts of the tree into uninterruptible sleep, on a file system that does not answer.
func unkillableScenarios() []Scenario {
	cannot := func(*Host) string { return CannotHang() }
	return []Scenario{
		{Name: "unkillable-worker", What: "a call hangs in the kernel, on a file system that does not answer, until after its deadline",
			Expect: "the caller learns where, a substitute serves; the worker is collected when the file system answers", Rounds: 1, Long: 10, Waits: true, Cannot: cannot,
			Run: func(r *Round) { unkillableWorker(r, true) }},
		{Name: "unkillable-agent-killed", What: "the same, and SIGKILL of the agent before the file system answers", Expect: "the certificate names the worker with its state and wchan; exit code 70, in bounded time",
			Rounds: 1, Long: 10, Waits: true, Cannot: cannot, Run: func(r *Round) { unkillableWorker(r, false) }},
		{Name: "unkillable-runtime-directory", What: "the runtime directory lies on a file system that does not answer",
			Beyond: "lock and certificate are written there; use a directory in memory, which is the default"},
	}
}

const hangs = `
import os
import pitboss

@pitboss.tool
def look(file: str) -> int:
    return os.stat(file).st_size

@pitboss.tool
def pid() -> int:
    return os.getpid()
`

// unkillableWorker is one round; the file system answers while the agent lives, or after its death.
func unkillableWorker(r *Round, answers bool) {
	dir := r.File("mount")
	r.Must(os.Mkdir(dir, 0o700))
	fs, err := NewHangingFS(dir)
	r.Must(err)
	r.Cleanup(fs.Close)
	a := r.Start(Options{Config: "pools:\n  - {name: default, adapter: hangs.py, workers: 2, timeouts: {kill: 300ms, drain: 5s}}\n", Files: map[string]string{"hangs.py": hangs}})
	a.Ready()
	_, err = a.Client().CallRaw(r.ctx, client.Request{Tool: "look", Args: client.Value{JSON: []byte(`{"file":"` + fs.Path("x") + `"}`)}, Timeout: time.Second})
	var e *client.Error
	if !errors.As(err, &e) || e.Reason != client.CallTimeout || !strings.Contains(e.Message, "uninterruptible sleep") || !strings.Contains(e.Message, "request_wait_answer") {
		r.Errorf("the caller got %v", err)
	}
	var stuck *Process
	r.Until("unkillable worker and its substitute", func() bool {
		var s struct {
			Pools []struct {
				State   string
				Workers []struct {
					State string
					PID   int
				}
			}
		}
		a.Status(&s)
		for _, w := range s.Pools[0].Workers {
			if w.State == "unkillable" && stuck == nil {
				stuck = r.pin(w.PID)
			}
		}
		return stuck != nil && s.Pools[0].State == "ready"
	})
	if _, err := a.Client().CallRaw(r.ctx, client.Request{Tool: "pid", Timeout: patience}); err != nil {
		r.Errorf("a call after the verdict: %v", err)
	}
	if answers {
		fs.Answer()
		if !stuck.Gone(patience) {
			r.Fatalf("the file system has answered, and worker %d is still there", stuck.PID)
		}
		r.Until("word of its end", func() bool {
			return strings.Contains(a.Log(), "worker.exited") && strings.Contains(a.Log(), "cleanup.completed")
		})
		a.Process.Kill(unix.SIGKILL)
		r.Empty(limit)
		return
	}
	began := time.Now()
	a.Process.Kill(unix.SIGKILL)
	if code := a.ExitCode(); code != 70 || time.Since(began) > unkillableLimit {
		r.Errorf("exit code %d after %s", code, time.Since(began))
	}
	for _, want := range []string{`"survivors":[{"pid":` + itoa(stuck.PID) + `,`, `"state":"D"`, `"wchan":"request_wait_answer"`} {
		if !strings.Contains(certificateIn(a.Log()), want) {
			r.Errorf("no %s in the certificate%s", want, r.logs())
		}
	}
	fs.Answer()
	r.Empty(limit)
}
