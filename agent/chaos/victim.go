package chaos

// victim is a worker that ignores TERM, keeps a diary until it is killed, and has three escapees that ignore TERM too:
// one in its group; one in a session of its own with an empty environment; a double-forked one with an empty environment and
// nothing in its arguments, which holds a file of the run open.
//
// Its TERMs are counted by the interpreter's own C handler, which writes one byte each to the wakeup descriptor: a handler in
// Python could be interrupted by the end of the call between its entry and its write, and would lose the one it should witness.
//
// The diary is a thread's: the main one may have to wait in the middle of a stream for credit that a dead agent cannot give.
//
// A call ends when the file release.PID appears, else never; setup ends when the file slow is not there.
const victim = `
import os, signal, subprocess, sys, threading, time
import pitboss

DIR = os.environ["CHAOS_DIR"]

def place(name):
    return os.path.join(DIR, name)

def note(kind):
    fd = os.open(place("%s.%d" % (kind, os.getpid())), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, ("%f\n" % time.monotonic()).encode())
    os.close(fd)

def escapees():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # kept over fork and exec
    subprocess.Popen([place("sleep"), "120"], executable="/bin/sleep")
    subprocess.Popen([place("sleep"), "120"], executable="/bin/sleep", env={}, start_new_session=True)
    held = os.open(place("held"), os.O_RDONLY | os.O_CREAT, 0o600)
    os.set_inheritable(held, True)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.execve("/bin/sleep", ["sleep", "120"], {})
        os._exit(0)
    os.waitpid(pid, 0)

def diary():
    fd = os.open(place("alive.%d" % os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    while True:
        os.write(fd, b".")
        time.sleep(0.01)

def keep_diary():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the main thread's
    threading.Thread(target=diary, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)

def linger(released):
    while True:
        try:
            if released():
                return
            time.sleep(0.01)
        except BaseException:
            pass

def call_released():
    return os.path.exists(place("release.%d" % os.getpid()))

class Victim(pitboss.Adapter):
    def setup(self):
        escapees()
        signal.set_wakeup_fd(os.open(place("signals.%d" % os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o600))
        signal.signal(signal.SIGTERM, lambda *a: None)
        keep_diary()
        note("ready")
        linger(lambda: not os.path.exists(place("slow")))

    def teardown(self):
        linger(lambda: False)

    @pitboss.tool
    def who(self) -> int:
        return os.getpid()

    @pitboss.tool
    def hang(self) -> int:
        note("hang")
        linger(call_released)
        return os.getpid()

    @pitboss.tool
    def drip(self):
        note("drip")
        while not call_released():
            try:
                yield 1
                time.sleep(0.005)
            except BaseException:
                pass
        return os.getpid()
`

// escapees is how many processes a victim leaves behind besides itself.
const escapees = 3
