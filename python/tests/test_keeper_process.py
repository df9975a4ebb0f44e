"""A real keeper over its orders link, and what happens to the tree below it: ipc/PROTOCOL.md §3."""

from __future__ import annotations

import errno
import os
import resource
import signal
import time

import pytest
from agent_end import Launcher, Worker, alive, children, eventually, kill, stat
from conftest import Tree

from pitboss import _keeper


def test_the_report_and_the_places_in_the_tree(tree: Tree, start: str) -> None:
    worker = tree.ready(start, env={"PITBOSS_TEST_EXTRA": "of the pool"})
    assert worker.report == {"op": "worker", "keeper": worker.keeper, "pid": worker.pid, "dump_signal": int(_keeper.DUMP_SIGNAL)}
    assert stat(worker.keeper)[1:3] == [str(worker.launcher.pid), str(worker.keeper)]  # parent, a group of its own
    assert stat(worker.pid)[1:4] == [str(worker.keeper), str(worker.pid), str(worker.pid)]  # a session of its own
    facts = worker.call("facts")
    assert (facts["env"], facts["stdin"], facts["no_new_privs"]) == ("of the pool", "", True)


def test_a_worker_is_not_reaped_before_it_is_seen(tree: Tree) -> None:
    launcher = tree.launcher()
    launcher.begin()
    worker = launcher.spawn(seen=False).ready()
    kill(worker.pid)
    assert worker.exited() == (None, signal.SIGKILL)
    assert worker.orders.silent(0.2) and stat(worker.pid)[0] == "Z"
    worker.orders.send("seen")
    worker.empty()
    assert stat(worker.pid) == []


@pytest.mark.parametrize(("how", "want"), [("exit", (3, None)), ("signal", (None, signal.SIGSEGV))])
def test_the_exit_status_is_told(tree: Tree, how: str, want: object) -> None:
    worker = tree.ready()
    if how == "exit":
        worker.request("exit_from_a_thread")
    else:
        kill(worker.pid, signal.SIGSEGV)
    report = worker.orders.expect("exited")
    assert (report["code"], report["signal"]) == want and report["maxrss_kb"] > 1000
    assert worker.empty() == 0
    if how == "exit":  # the stack of whoever left, although it was no main thread
        assert "in leave_the_process" in worker.stacks()


def test_stop_sends_one_term_and_kills_after_the_grace(tree: Tree) -> None:
    worker = tree.ready()
    worker.request("count_terms")
    tree.noted("counting")
    began = time.monotonic()
    worker.stop(0.6)
    worker.stop(60.0)  # a second stop does not lengthen the grace
    assert worker.exited() == (None, signal.SIGKILL)
    assert time.monotonic() - began >= 0.6
    worker.empty()
    assert tree.notes().count("TERM") == 1


def test_a_second_stop_shortens_the_grace(tree: Tree) -> None:
    worker = tree.ready()
    worker.request("ignore_term")
    tree.noted("ignoring")
    worker.stop(600.0)
    assert worker.orders.silent(0.2)
    worker.stop(0.1)
    assert worker.ended() == (None, signal.SIGKILL)


def test_a_stopped_worker_gets_its_term(tree: Tree) -> None:
    worker = tree.ready()
    kill(worker.pid, signal.SIGSTOP)
    eventually(lambda: stat(worker.pid)[0] == "T", "stopped")
    worker.stop(60.0)
    assert worker.ended() == (0, None)
    assert "teardown" in tree.notes()


def test_kill_has_no_term_and_no_grace(tree: Tree) -> None:
    worker = tree.ready()
    worker.request("count_terms")
    tree.noted("counting")
    worker.orders.send("kill")
    assert worker.ended() == (None, signal.SIGKILL)
    assert "TERM" not in tree.notes() and "teardown" not in tree.notes()


def test_the_end_of_the_link_is_a_stop_with_the_grace_of_spawn(tree: Tree) -> None:
    worker = tree.ready(grace=0.5)
    worker.request("count_terms")
    tree.noted("counting")
    began = time.monotonic()
    worker.orders.close()
    assert worker.launcher.reap(worker)["status"] == 0  # waits for it
    assert 0.5 <= time.monotonic() - began
    assert tree.notes().count("TERM") == 1
    assert alive(tree.token) == [worker.launcher.pid]


def test_nonsense_on_the_link_is_its_end(tree: Tree) -> None:
    worker = tree.ready(grace=0.2)
    worker.orders.socket.send(b"[1]")
    assert worker.launcher.reap(worker)["status"] == 0


def test_a_hook_that_starts_a_thread_refuses_the_worker(tree: Tree) -> None:
    start = "lambda: threading.Thread(target=time.sleep, args=(600,)).start()"
    path = tree.module("hooked", f"import os, threading, time\nos.register_at_fork(after_in_child={start})\n")
    launcher = tree.launcher()
    assert launcher.begin(preload=["hooked"], path=[path])["start"] == "fork"
    worker = launcher.spawn()
    assert worker.report is not None
    assert (worker.report["op"], worker.report["reason"]) == ("refused", "THREADS")
    assert "2 threads" in worker.report["message"]
    assert launcher.reap(worker)["status"] == 71
    assert alive(tree.token) == [launcher.pid]


@pytest.mark.parametrize("end", ["stop", "kill", "eof", "leader", "launcher"])
def test_escapees_do_not_outlive_their_worker(tree: Tree, end: str) -> None:
    worker = tree.ready(grace=0.2)
    escaped = worker.call("escapees")
    assert set(escaped) <= set(alive(tree.token)) and len(escaped) == 3
    if end == "stop":
        worker.request("ignore_term")
        tree.noted("ignoring")
        worker.stop(0.2)
    elif end == "kill":
        worker.orders.send("kill")
    elif end == "eof":
        worker.orders.close()
    elif end == "leader":
        kill(worker.pid)
    else:  # the keeper falls to us and is the only one left to do it
        kill(worker.launcher.pid)
        worker.launcher.wait()
        eventually(lambda: stat(worker.keeper)[1] == str(os.getpid()), "the keeper is ours")
        worker.orders.close()
        eventually(lambda: os.waitid(os.P_PID, worker.keeper, os.WEXITED | os.WNOHANG), "the end of the keeper")
        assert alive(tree.token) == []
        return
    if end != "eof":
        assert worker.exited()[1] == signal.SIGKILL
        assert worker.empty() >= 2  # the two outside of its group; the third may be killed with the group
    else:
        assert worker.launcher.reap(worker)["status"] == 0
    assert alive(tree.token) == [worker.launcher.pid]


@pytest.mark.parametrize("guardian", ["keeper", "launcher"])
def test_a_guardian_that_can_open_nothing_ends_everything(tree: Tree, guardian: str) -> None:
    worker = tree.ready(grace=0.2)
    worker.call("escapees")
    if guardian == "keeper":
        resource.prlimit(worker.keeper, resource.RLIMIT_NOFILE, (3, 3))  # poll(2) needs as many as it looks at
        kill(worker.pid)
        worker.exited()
        worker.empty()
    else:
        resource.prlimit(worker.launcher.pid, resource.RLIMIT_NOFILE, (3, 3))  # poll(2) needs as many as it looks at
        kill(worker.keeper)
        assert worker.launcher.reap(worker)["status"] == -signal.SIGKILL
    assert worker.launcher.pid in alive(tree.token)
    assert set(alive(tree.token)) <= {worker.launcher.pid, worker.keeper}  # a keeper ends after its last word


# A bomb that has gone off: as many processes as its limit lets it have, each in a session of its own, and each forks on.
BOMB_LIMIT = 150


@pytest.mark.parametrize("guardian", ["keeper", "launcher"])
def test_a_fork_bomb_at_its_limit_ends(tree: Tree, guardian: str) -> None:
    worker = tree.ready(grace=0.2)
    worker.call("explode", user=65532, limit=BOMB_LIMIT)  # RLIMIT_NPROC does not bind root, and counts every process of the user
    eventually(lambda: len(alive(tree.token)) >= BOMB_LIMIT, "the bomb has gone off")
    if guardian == "keeper":
        kill(worker.pid)
        worker.exited()
        worker.empty()
    else:
        kill(worker.keeper)
        assert worker.launcher.reap(worker)["status"] == -signal.SIGKILL
    assert set(alive(tree.token)) <= {worker.launcher.pid, worker.keeper}


# A keeper that may not signal other users' processes, as one of an unprivileged agent's. The tests are root's.
WITHOUT_CAP_KILL = """import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
header = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0))
data = ctypes.create_string_buffer(24)
assert libc.capget(header, data) == 0
words = list(struct.unpack("6I", data.raw[:24]))
for i in range(3):
    words[i] &= ~(1 << 5)
assert libc.capset(header, ctypes.create_string_buffer(struct.pack("6I", *words))) == 0
"""


def without_cap_kill(tree: Tree) -> Launcher:
    launcher = tree.launcher()
    launcher.begin(preload=["harmless"], path=[tree.module("harmless", WITHOUT_CAP_KILL)])
    return launcher


def test_a_child_that_refuses_kill_is_told_and_help_is_waited_for(tree: Tree) -> None:
    worker = without_cap_kill(tree).spawn().ready()
    other = worker.call("of_another_user")
    kill(worker.pid)
    assert worker.exited() == (None, signal.SIGKILL)
    denied = worker.orders.expect("denied")
    assert (denied["pid"], denied["errno"], denied["state"]) == (other, errno.EPERM, "S")
    kill(other)  # whoever may: root here, cgroup.kill of the agent
    worker.empty()


@pytest.mark.parametrize("how", ["worker", "keeper"])
def test_a_child_that_refuses_kill_is_left_and_named(tree: Tree, how: str) -> None:
    launcher = without_cap_kill(tree)
    worker, sibling = launcher.spawn().ready(), launcher.spawn().ready()
    escaped = worker.call("escapees")
    other = worker.call("of_another_user")
    if how == "worker":
        kill(worker.pid)
        worker.exited()
        assert worker.orders.expect("denied")["pid"] == other
        left = worker.orders.expect("left")
        assert left["killed"] >= 2 and [(row["pid"], row["errno"]) for row in left["left"]] == [(other, errno.EPERM)]
        eventually(lambda: stat(worker.keeper)[0] == "Z", "the keeper has ended")
        assert ticks(worker.keeper) < 50  # of 100 in a second: it has not spun for its 4 s
    else:
        kill(worker.keeper)
    reaped = launcher.reap(worker)
    assert reaped["status"] == (72 if how == "worker" else -signal.SIGKILL)
    assert [(row["pid"], row["errno"]) for row in reaped["left"]] == [(other, errno.EPERM)]
    assert other not in reaped["killed"] and not set(escaped) & set(alive(tree.token))
    # The launcher serves on, and collects it once it has ended.
    assert sibling.call("add", a=1) == 2
    assert launcher.spawn().ready().call("add", a=1) == 2
    kill(other)
    eventually(lambda: other not in children(launcher.pid), "nothing is left of it")


def ticks(pid: int) -> int:
    """Processor time of a process, in clock ticks: fields 14 and 15 of /proc/PID/stat."""
    return sum(map(int, stat(pid)[11:13]))


def test_children_of_the_worker_are_its_own(tree: Tree, start: str) -> None:
    worker = tree.ready(start)
    assert worker.call("exits_of_commands", n=200) == {"7": 200}
    assert worker.call("wait_sees_own_children", n=10) is True
    assert worker.call("exits_of_multiprocessing", n=5) == [0, 1, 2, 3, 4]


def test_orphans_do_not_pile_up(tree: Tree) -> None:
    worker = tree.ready()
    assert worker.call("orphans", n=100) == 100
    eventually(lambda: children(worker.keeper) == [worker.pid], "the keeper has reaped every orphan")
    assert children(worker.pid) == []


def test_a_killed_keeper_takes_its_worker_with_it(tree: Tree, start: str) -> None:
    worker = tree.ready(start)
    worker.request("ignore_term")
    tree.noted("ignoring")
    kill(worker.keeper)
    eventually(lambda: worker.pid not in alive(tree.token), "the worker is dead")
    assert worker.launcher.reap(worker)["status"] == -signal.SIGKILL
    assert alive(tree.token) == [worker.launcher.pid]


def test_workers_draw_different_numbers(tree: Tree) -> None:
    launcher = tree.launcher()
    path = tree.module("seeded", "import random\nrandom.seed(1)\n")
    launcher.begin(preload=["seeded"], path=[path])
    assert _draws(launcher.spawn(), launcher.spawn())


def test_workers_draw_different_numbers_of_numpy(tree: Tree) -> None:
    launcher: Launcher = tree.launcher({"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})
    path = tree.module("seeded_numpy", "import numpy\nnumpy.random.seed(1)\n")
    assert launcher.begin(preload=["seeded_numpy"], path=[path])["start"] == "fork"
    assert _draws(launcher.spawn(), launcher.spawn())


def _draws(one: Worker, two: Worker) -> bool:
    """Whether every generator of the two differs."""
    return all(a != b for a, b in zip(one.ready().call("draws"), two.ready().call("draws")))
