package agent

// testTools are well- and ill-behaved tools, each a named misbehaviour.
const testTools = `
import ctypes, hashlib, os, threading, time
import pitboss

@pitboss.tool
def add(a: int, b: int) -> int:
    return a + b

@pitboss.tool
def count(n: int):
    for i in range(n):
        yield {"i": i}
    return n

@pitboss.tool
def exit_three():
    os._exit(3)

@pitboss.tool
def segfault():
    ctypes.string_at(0)

@pitboss.tool
def raises():
    raise ValueError("on purpose")

@pitboss.tool
def deadlock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

@pitboss.tool
def pause(seconds: float) -> float:
    time.sleep(seconds)
    return seconds

@pitboss.tool
def hold_gil():
    ctypes.PyDLL(None).sleep(60)

@pitboss.tool
def burn(seconds: int) -> int:
    total, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        total += sum(range(10**7))
    return total

@pitboss.tool
def forks() -> str:
    if os.fork() == 0:
        return "child"
    return "parent"

@pitboss.tool
def fork_raises() -> str:
    if os.fork() == 0:
        raise ValueError("in the child")
    time.sleep(0.2)
    return "parent"

@pitboss.tool
def fork_unseen() -> str:
    # By libc, so that no at-fork hook of the interpreter closes the links in the child.
    if ctypes.CDLL(None).fork() == 0:
        return "child"
    time.sleep(0.2)
    return "parent"

@pitboss.tool
def fork_and_die():
    if os.fork() == 0:
        time.sleep(0.3)
        return "child, after its parent's death"
    os._exit(3)

@pitboss.tool
def escape(file: str, die: bool) -> int:
    # A double fork and a session of its own: no group signal reaches it.
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open(file + ".new", "w") as f:
                f.write(str(os.getpid()))
            os.rename(file + ".new", file)
            while True:
                time.sleep(60)
        os._exit(0)
    os.wait()
    while not os.path.exists(file):
        time.sleep(0.01)
    if die:
        os._exit(3)
    return 0

@pitboss.tool
def time_sum(n: int) -> float:
    start = time.monotonic()
    sum(range(n))
    return time.monotonic() - start

@pitboss.tool
def big(n: int) -> bytes:
    return b"x" * n

@pitboss.tool
def take(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

@pitboss.tool
def flood(seconds: float):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        print("flood")

@pitboss.tool
def spin(seconds: float):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass

@pitboss.tool
def cut_control():
    import socket
    socket.socket(fileno=os.dup(4)).shutdown(socket.SHUT_RDWR)
    time.sleep(30)

def _shut(how):
    import socket
    socket.socket(fileno=os.dup(3)).shutdown(how)

@pitboss.tool
def cut_data_write():
    _shut(1)
    time.sleep(30)

@pitboss.tool
def cut_data_read() -> str:
    _shut(0)
    return "answered"
`
