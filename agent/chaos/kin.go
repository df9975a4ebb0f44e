package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// kin is a worker that leaves behind every sort of process that user code can: `beget` starts one of each, and returns when each has
// written its pid to kin.WORKER.KIND. All of them stay for ever.
//
// in-group, own-session, double-fork: where they say. renamed: double-forked, then executed with no environment and a kernel thread's
// name; it holds a file of the round open. deaf and deaf-child ignore TERM, masked blocks every signal. subreaper adopts hidden, so
// that it never falls to the keeper while subreaper lives. breeder forks on when it gets TERM. leaderless is in a group and a session
// whose leader is gone. headless has ended its first thread, so /proc calls it a zombie. swapped became
// another program by its second thread, which took the first one's number. pulse writes a byte every 10 ms.
const kin = `
import ctypes, os, signal, threading, time
import pitboss

DIR = os.environ["CHAOS_DIR"]
libc = ctypes.CDLL(None)

def place(name):
    return os.path.join(DIR, name)

def stay():
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

def hold(name):
    fd = os.open(place(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.set_inheritable(fd, True)
    return fd

def in_child(f):
    pid = os.fork()
    if pid == 0:
        try:
            f()
        finally:
            os._exit(9)
    return pid

def begotten(worker):
    return {name.rsplit(".", 1)[1] for name in os.listdir(DIR) if name.startswith("kin.%d." % worker)}

KINDS = ["in-group", "own-session", "double-fork", "renamed", "deaf", "deaf-child", "masked", "subreaper", "hidden", "breeder",
         "leaderless", "headless", "swapped", "pulse"]

class Kin(pitboss.Adapter):
    def teardown(self):
        if os.path.exists(place("linger")):
            stay()

    @pitboss.tool
    def beget(self) -> int:
        worker = os.getpid()
        if begotten(worker):
            return worker
        self.start(worker)
        end = time.monotonic() + 25
        while len(begotten(worker)) < len(KINDS):
            if time.monotonic() > end:
                raise RuntimeError("there are only %s" % begotten(worker))
            time.sleep(0.005)
        return worker

    def start(self, worker):
        def born(kind):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            with open(place("new.%d" % os.getpid()), "w") as f:
                f.write(str(os.getpid()))
            os.rename(f.name, place("kin.%d.%s" % (worker, kind)))

        def staying(kind):
            born(kind)
            time.sleep(100000)

        def double(f):
            def middle():
                os.setsid()
                in_child(f)
                os._exit(0)
            os.waitpid(in_child(middle), 0)

        def own_session():
            os.setsid()
            staying("own-session")

        def renamed():
            born("renamed")
            hold("held")
            os.execve("/bin/sleep", ["[kworker/0:1-events]", "100000"], {})

        def deaf():
            def child():
                born("deaf-child")
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                stay()
            in_child(child)
            born("deaf")
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
                signal.signal(number, signal.SIG_IGN)
            stay()

        def masked():
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            staying("masked")

        def subreaper():
            os.setsid()
            libc.prctl(36, 1, 0, 0, 0)
            double(lambda: staying("hidden"))
            staying("subreaper")

        def breeder():
            brood = hold("brood.%d" % worker)
            born("breeder")
            def breed(*_):
                for _ in range(100):
                    def child():
                        os.setsid()
                        time.sleep(100000)
                    in_child(child)
                    os.write(brood, b".")
                    time.sleep(0.004)
            signal.signal(signal.SIGTERM, breed)
            stay()

        def leader():
            os.setsid()
            in_child(lambda: staying("leaderless"))
            os._exit(0)

        def headless():
            threading.Thread(target=time.sleep, args=(100000,)).start()
            born("headless")
            libc.pthread_exit(None)

        def swapped():
            born("swapped")
            threading.Thread(target=os.execv, args=("/bin/sleep", ["sleep", "100000"])).start()
            stay()

        def pulse():
            os.setsid()
            beat = hold("pulse.%d" % worker)
            born("pulse")
            while True:
                os.write(beat, b".")
                time.sleep(0.01)

        in_child(lambda: staying("in-group"))
        in_child(own_session)
        double(lambda: staying("double-fork"))
        double(renamed)
        for f in (deaf, masked, subreaper, breeder, headless, swapped, pulse):
            in_child(f)
        os.waitpid(in_child(leader), 0)

    @pitboss.tool
    def who(self) -> int:
        return os.getpid()

    @pitboss.tool
    def exit(self):
        os._exit(3)

    @pitboss.tool
    def segv(self):
        ctypes.string_at(0)

    @pitboss.tool
    def kill_group(self):
        os.kill(0, signal.SIGKILL)

    @pitboss.tool
    def become_another(self):
        thread = threading.Thread(target=os.execv, args=("/bin/sleep", ["sleep", "100000"]))
        thread.start()
        thread.join()

    @pitboss.tool
    def hang(self):
        stay()
`

// kinds is how many processes beget starts.
const kinds = 14

// family is a worker and what it has begotten, each pinned.
type family struct {
	worker *Process
	kin    map[string]*Process // by kind
}

// families pins every family that is there.
func (r *Round) families() map[int]*family {
	all := map[int]*family{}
	names, _ := filepath.Glob(r.File("kin.*.*"))
	for _, name := range names {
		part := strings.SplitN(filepath.Base(name), ".", 3)
		worker, _ := strconv.Atoi(part[1])
		text, err := os.ReadFile(name)
		r.Must(err)
		pid, err := strconv.Atoi(string(text))
		r.Must(err)
		if all[worker] == nil {
			all[worker] = &family{worker: r.pin(worker), kin: map[string]*Process{}}
		}
		all[worker].kin[part[2]] = r.pin(pid)
	}
	for pid, f := range all {
		if len(f.kin) != kinds {
			r.Fatalf("worker %d has begotten %d of %d kinds", pid, len(f.kin), kinds)
		}
		if n := len(r.holders("brood." + itoa(pid))); n != 1 {
			r.Fatalf("%d processes hold the brood of worker %d, want its breeder", n, pid)
		}
	}
	return all
}

// holders are the processes that hold a file of the round open.
func (r *Round) holders(name string) (pids []int) {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == r.File(name) {
			pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// wantGone: the worker and all that it has begotten is gone, what its breeder has bred too. A killed process of a host with a hundred
// runnable threads waits seconds for its turn to die, so how long that took is noted, not judged.
func (r *Round) wantGone(f *family, after string) {
	began := time.Now()
	defer func() { r.Note("%s: all gone after %s", after, time.Since(began).Round(time.Millisecond)) }()
	if !f.worker.Gone(patience) {
		r.survived("worker %d after %s", f.worker.PID, after)
	}
	for kind, p := range f.kin {
		if !p.Gone(patience) {
			r.survived("%s (%d) of worker %d after %s", kind, p.PID, f.worker.PID, after)
			p.Kill(syscall.SIGKILL)
		}
	}
	if left := r.holders("brood." + itoa(f.worker.PID)); len(left) > 0 {
		r.survived("brood %v of worker %d after %s", left, f.worker.PID, after)
	}
}

// wantLiving: the worker and all that it has begotten lives, and is seen to run.
func (r *Round) wantLiving(f *family, after string) {
	if f.worker.Gone(0) {
		r.FalseKill("worker %d died with %s", f.worker.PID, after)
	}
	for kind, p := range f.kin {
		if p.Gone(0) {
			r.FalseKill("%s (%d) of worker %d died with %s", kind, p.PID, f.worker.PID, after)
		}
	}
	name := "pulse." + itoa(f.worker.PID)
	before := r.size(name)
	r.Until("pulse of worker "+itoa(f.worker.PID)+" after "+after, func() bool { return r.size(name) > before })
}

func (r *Round) size(name string) int64 {
	info, err := os.Stat(r.File(name))
	if err != nil {
		return 0
	}
	return info.Size()
}

// survived counts a process that should be gone.
func (r *Round) survived(format string, args ...any) {
	r.mu.Lock()
	r.outcome.Survivors++
	r.mu.Unlock()
	r.Errorf("survivor: "+format+"%s", append(args, r.logs())...)
}

// kinPool is the configuration of one pool of these.
func kinPool(name string, workers int, grace time.Duration) string {
	return fmt.Sprintf("  - {name: %s, adapter: kin.py, workers: %d, timeouts: {kill: %s, drain: %s}}\n", name, workers, grace, drain)
}

// bred is how many processes the breeders of the round have made in their grace.
func (r *Round) bred() (n int) {
	names, _ := filepath.Glob(r.File("brood.*"))
	for _, name := range names {
		n += int(r.size(filepath.Base(name)))
	}
	return n
}
