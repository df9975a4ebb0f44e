package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// identityScenarios: a number is not a process, and a process does not keep its user.
func identityScenarios() []Scenario {
	const what = "workers, keepers and launchers die all the time in a pid namespace of 500 numbers, through which %s strangers pass"
	const expect = "no stranger is hit; a reaper that goes by remembered numbers does hit some there"
	return []Scenario{
		{Name: "pid-reuse", What: fmt.Sprintf(what, "1 500"), Expect: expect, Rounds: 1, Waits: true, Cannot: cannotReuse, Run: func(r *Round) { reusePIDs(r, 1_500) }},
		{Name: "pid-reuse-100000", What: fmt.Sprintf(what, "100 000"), Expect: expect, Long: 1, Cannot: cannotReuse, Run: func(r *Round) { reusePIDs(r, 100_000) }},
	}
}

// lastPID sets the number after which the kernel looks for the next free one, in the caller's pid namespace only. (kernel.pid_max is
// the whole host's before Linux 6.14.)
const lastPID = "/proc/sys/kernel/ns_last_pid"

func cannotReuse(h *Host) string {
	if _, err := os.Stat(lastPID); err != nil {
		return "needs " + lastPID + " (CONFIG_CHECKPOINT_RESTORE)"
	}
	if _, err := exec.LookPath("unshare"); err != nil {
		return "needs unshare(1)"
	}
	return NeedsRoot(h)
}

// churn is the first process of a pid namespace in which numbers come back soon. It starts what its arguments say, keeps 50 strangers
// alive, each in a session of its own, and lets one go whenever a new one is born, from the moment on when the file "begin" is there. A stranger that a signal ends was hit. It
// goes on until the file "enough" is there and ends with what it has started; the end of its standard input ends the whole namespace. Without arguments a reaper is at work that goes by
// numbers: every 5 births it kills one that was reaped, its process long gone.
const churn = `
import os, select, signal, sys, time
directory, command = sys.argv[1], sys.argv[2:]
FIRST, LAST, STRANGERS, LONG_AGO = 300, 800 if command else 420, 50, 80

def place(name):
    return os.path.join(directory, name)

def tell(name, text):
    with open(place("new"), "w") as f:
        f.write(text)
    os.rename(place("new"), place(name))

last_pid = os.open("/proc/sys/kernel/ns_last_pid", os.O_WRONLY)
go, release = os.pipe()
strangers, gone, births, seen, again, hits, started, status = set(), [], 0, set(), 0, [], 0, 0

def born(f):
    while True:
        try:
            pid = os.fork()
        except BlockingIOError:  # every number is taken
            collect()
            time.sleep(0.001)
            continue
        if pid == 0:
            try:
                f()
            finally:
                os._exit(9)
        if pid >= LAST:
            os.pwrite(last_pid, str(FIRST - 1).encode(), 0)
        return pid

def stranger():
    os.setsid()
    os.read(go, 1)
    os._exit(0)

def collect():
    global started, status
    while True:
        try:
            pid, how = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid == started:
            started, status = 0, how
        if pid in strangers:
            strangers.discard(pid)
            if how != 0:
                hits.append("%d after %d births: %d" % (pid, births, how))
            else:
                gone.append((births, pid))

os.pwrite(last_pid, str(FIRST - 1).encode(), 0)
if command:
    started = born(lambda: os.execvp(command[0], command))
while command and started and not os.path.exists(place("begin")):  # the agent starts in peace
    collect()
    if select.select([0], [], [], 0.01)[0]:
        os._exit(1)
while not os.path.exists(place("enough")) and (started or not command):
    pid = born(stranger)
    strangers.add(pid)
    births += 1
    again += pid in seen
    seen.add(pid)
    if len(strangers) > STRANGERS:
        os.write(release, b".")
    if not command and births % 5 == 0 and gone and births - gone[0][0] > LONG_AGO:
        _, number = gone.pop(0)
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            pass
    collect()
    if select.select([0], [], [], 0)[0]:
        os._exit(1)
    if births % 10 == 0:
        tell("births", "%d %d %d" % (births, again, len(hits)))
os.write(release, b"." * len(strangers))
while strangers or started:
    collect()
    if select.select([0], [], [], 0.001)[0]:
        os._exit(1)
tell("result", "%d %d %d\n%s\n" % (births, again, len(hits), "\n".join(hits)))
os._exit(os.waitstatus_to_exitcode(status) if hasattr(os, "waitstatus_to_exitcode") and status >= 0 else 0)
`

// reusePIDs: the control, then the agent.
func reusePIDs(r *Round, births int) {
	r.Write("churn.py", churn)
	r.Must(os.Mkdir(r.File("control"), 0o700))
	control := exec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", r.Host().Python, r.File("churn.py"), r.File("control"))
	control.Env = append(os.Environ(), TokenEnv+"="+r.tree.Token)
	control.Stdin = r.lifeline()
	r.Must(control.Start())
	ended := make(chan struct{})
	go func() { _ = control.Wait(); close(ended) }()
	r.Cleanup(func() { _ = control.Process.Kill(); <-ended })
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(4 * patience); ; <-tick.C { // it takes 150 births: a fork each
		n, _, hits := r.churned("control/births")
		if hits > 0 {
			break
		}
		if time.Now().After(end) || r.Context().Err() != nil {
			r.Fatalf("the reaper that goes by numbers has hit none of %d strangers", n)
		}
	}
	r.Write("control/enough", "")
	<-ended

	config := "pools:\n"
	pools := []string{"a", "b", "c"}
	for _, name := range pools {
		config += kinPool(name, 2, grace)
	}
	a := &kinAgent{r, r.Start(Options{Config: strings.ReplaceAll(config, "kin.py", "dying.py"), Files: map[string]string{"dying.py": dying},
		Env:    []string{"CHAOS_DIR=" + r.dir},
		Change: func(c *exec.Cmd) { c.Stdin = r.lifeline() },
		Before: []string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc", r.Host().Python, r.File("churn.py"), r.dir}})}
	a.Ready()
	r.Write("begin", "")
	last := time.Now().Add(patience + time.Duration(births)*100*time.Millisecond) // a loaded host takes 20 ms for each
	deaths := a.dieUntil(pools, func() bool {
		n, _, hits := r.churned("births")
		return n >= births || hits > 0 || r.Context().Err() != nil || a.over() || time.Now().After(last)
	})
	if a.over() {
		r.Fatalf("the agent ended%s", r.logs())
	}
	for _, pool := range pools {
		r.Until("answer of pool "+pool, func() bool { _, err := a.callTool(pool, "who", patience); return err == nil })
	}
	a.Process.Kill(syscall.SIGKILL)
	r.Until("end of the agent's tree", func() bool { return a.Watchdog.Gone(0) })
	r.Write("enough", "")
	r.Until("result", func() bool { return r.size("result") > 0 })
	n, again, hits := r.churned("result")
	for range hits {
		text, _ := os.ReadFile(r.File("result"))
		r.Innocent("%s", text)
	}
	if n < births || again < n/2 {
		r.Errorf("%d strangers were born, %d of them with a number that another had had: the round does not show what it should", n, again)
	}
	r.Note("%d strangers, %d with a number that came back; meanwhile %d deaths ordered or done", n, again, deaths)
	r.Empty(patience)
}

// lifeline is a standard input that ends with the round, or with this process.
func (r *Round) lifeline() *os.File {
	theirs, ours, err := os.Pipe()
	r.Must(err)
	r.Cleanup(func() { _, _ = theirs.Close(), ours.Close() })
	return theirs
}

// churned is how many strangers were born, how many of them with a number that came back, and how many were hit.
func (r *Round) churned(file string) (births, again, hits int) {
	text, _ := os.ReadFile(r.File(file))
	_, _ = fmt.Sscan(string(text), &births, &again, &hits)
	return births, again, hits
}

// dying are workers that are born with escapees.
const dying = `
import os, signal, time
import pitboss

def left(*steps):
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for step in steps:
            step()
        while True:
            time.sleep(600)
    return pid

def again():
    if os.fork():
        os._exit(0)

class Dying(pitboss.Adapter):
    def setup(self):
        left()
        left(os.setsid)
        os.waitpid(left(os.setsid, again), 0)

    @pitboss.tool
    def who(self) -> int:
        return os.getpid()

    @pitboss.tool
    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)
`

// dieUntil lets workers die in every pool, by orders and by themselves, and now and then a keeper or a launcher, and returns how many.
func (a *kinAgent) dieUntil(pools []string, done func() bool) int {
	_ = a.Client()
	var mu sync.Mutex
	var harm sync.WaitGroup
	deaths := 0
	died := func() { mu.Lock(); deaths++; mu.Unlock() }
	stop := make(chan struct{})
	for i, pool := range pools {
		harm.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				switch {
				case n%10 == 9: // few: each makes the next one wait longer
					_, _ = a.callTool(pool, "die", patience)
				case n%10 == 4 && i == 0:
					a.killBelow(n%20 == 4)
				default:
					a.restartOne(pool)
				}
				died()
			}
		})
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		<-tick.C
	}
	close(stop)
	harm.Wait()
	return deaths
}

// restartOne restarts a worker of the pool. It fails while the pool has none, or when that one has just ended.
func (a *kinAgent) restartOne(pool string) {
	ctx, cancel := a.patient()
	defer cancel()
	_, _ = a.Client().RestartPool(ctx, pool)
}

// killBelow kills a launcher of the agent, or a keeper.
func (a *kinAgent) killBelow(keeper bool) {
	for _, pid := range ChildrenOf(a.Process.PID) {
		below := ChildrenOf(pid)
		if len(below) == 0 {
			continue
		}
		target, parent := pid, a.Process.PID
		if keeper {
			target, parent = below[0], pid
		}
		p, err := Pin(target)
		if err != nil {
			continue
		}
		if parentOf(target) == parent { // it is still that one: the handle was open before
			p.Kill(syscall.SIGKILL)
		}
		p.close()
		return
	}
}
