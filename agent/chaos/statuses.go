package chaos

import (
	"context"
	"encoding/json"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/pitboss-run/pitboss/agent/client"
)

// statusScenarios: a guardian that reaps what its worker left must not take a status that user code waits for.
func statusScenarios() []Scenario {
	const expect = "every status is 7, no wait sees a stranger, no zombie is left below worker, keeper, launcher, agent and watchdog"
	return []Scenario{
		{Name: "exit-statuses", What: "one worker runs 40 processes that exit with 7 by each of subprocess, fork and wait, multiprocessing and asyncio, and makes as many orphans",
			Expect: expect, Rounds: 1, Waits: true, Run: func(r *Round) { exitStatuses(r, 40) }},
		{Name: "exit-statuses-10000", What: "the same with 10 000 of each", Expect: expect, Long: 1, Run: func(r *Round) { exitStatuses(r, 10_000) }},
	}
}

const statusTools = `
import asyncio, collections, multiprocessing, os, subprocess
import pitboss

SEVEN = ["/bin/sh", "-c", "exit 7"]
BATCH = 20  # so many at once: a loaded host makes each one wait for its turn

def exits():
    os._exit(7)

def batches(n):
    return [min(BATCH, n - at) for at in range(0, n, BATCH)]

@pitboss.tool
def run(n: int) -> dict:
    codes = []
    for size in batches(n):
        started = [subprocess.Popen(SEVEN) for _ in range(size - 1)]
        codes.append(subprocess.run(SEVEN).returncode)
        codes += [p.wait() for p in started]
    return histogram(codes)

@pitboss.tool
def wait(n: int) -> dict:
    """os.wait and os.waitpid(-1) by turns, with orphans made in between: a stranger's pid would show as such."""
    codes = []
    for size in batches(n):
        own = {forked(exits) for _ in range(size)}
        middles = {forked(leave_an_orphan) for _ in range(size)}
        for i in range(2 * size):
            pid, status = os.wait() if i % 2 else os.waitpid(-1, 0)
            if pid in own:
                own.discard(pid)
                codes.append(os.WEXITSTATUS(status))
            elif pid in middles and os.WEXITSTATUS(status) == 0:
                middles.discard(pid)
            else:
                codes.append("stranger")
    try:
        os.wait()
    except ChildProcessError:
        return histogram(codes)
    return {"a child too many": 1}

@pitboss.tool
def process(n: int) -> dict:
    context = multiprocessing.get_context("fork")
    codes = []
    for size in batches(n):
        started = [context.Process(target=exits) for _ in range(size)]
        for p in started:
            p.start()
        for p in started:
            p.join()
            codes.append(p.exitcode)
    return histogram(codes)

@pitboss.tool
def aio(n: int) -> dict:
    async def one():
        return await (await asyncio.create_subprocess_exec(*SEVEN)).wait()
    async def all_of_them():
        codes = []
        for size in batches(n):
            codes += await asyncio.gather(*(one() for _ in range(size)))
        return codes
    return histogram(asyncio.run(all_of_them()))

def forked(f):
    pid = os.fork()
    if pid == 0:
        f()
    return pid

def leave_an_orphan():
    forked(exits)
    os._exit(0)

@pitboss.tool
def orphans(n: int) -> dict:
    codes = []
    for size in batches(n):
        for pid in [forked(leave_an_orphan) for _ in range(size)]:
            codes.append(7 + os.WEXITSTATUS(os.waitpid(pid, 0)[1]))
    return histogram(codes)

def histogram(codes):
    return {str(code): count for code, count in collections.Counter(codes).items()}
`

func exitStatuses(r *Round, n int) {
	a := &kinAgent{r, r.Start(Options{Config: "pools: [{name: default, adapter: statuses.py, workers: 1}]\n", Files: map[string]string{"statuses.py": statusTools}})}
	a.Ready()
	c := a.Client()
	for _, tool := range []string{"run", "wait", "process", "aio", "orphans"} {
		began := time.Now()
		ctx, cancel := context.WithTimeout(r.Context(), 61*time.Minute)
		args, err := client.Encode(map[string]any{"n": n})
		r.Must(err)
		result, err := c.CallRaw(ctx, client.Request{Tool: tool, Args: args, Timeout: time.Hour})
		cancel()
		if err != nil {
			r.Fatalf("%s: %v", tool, err)
		}
		codes := map[string]int{}
		r.Must(json.Unmarshal(result.JSON, &codes))
		if len(codes) != 1 || codes["7"] != n {
			r.Errorf("%s: exit statuses %v, want %d of 7", tool, codes, n)
		}
		// Those who died last may not be reaped yet.
		r.Until("end of all zombies after "+tool, func() bool { return len(zombies(a.Watchdog.PID)) == 0 })
		r.Note("%s: %d in %s", tool, n, time.Since(began).Round(time.Millisecond))
	}
	r.zombiesAreSeen()
	a.Process.Kill(syscall.SIGKILL)
	r.Empty(patience)
}

// zombies are the dead and unreaped below a process.
func zombies(pid int) (found []int) {
	for _, child := range ChildrenOf(pid) {
		dir := "/proc/" + strconv.Itoa(child)
		if _, err := os.Stat(dir); err == nil && zombie(dir) && firstThread(dir) == "" {
			found = append(found, child)
		}
		found = append(found, zombies(child)...)
	}
	return found
}

// zombiesAreSeen is the control of that count: a child of this process that nobody has waited for.
func (r *Round) zombiesAreSeen() {
	pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{})
	r.Must(err)
	r.Until("sight of a zombie", func() bool {
		for _, found := range zombies(os.Getpid()) {
			if found == pid {
				return true
			}
		}
		return false
	})
	_, err = syscall.Wait4(pid, nil, 0, nil)
	r.Must(err)
}
