"""A real launcher over its orders link: ipc/PROTOCOL.md §2.

The CUDA refusal is not here: it needs a device below /dev/nvidia*, which a test cannot make without changing the machine.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
from pathlib import Path
from typing import Dict

import pytest
from agent_end import LIBRARY, Launcher, Link, alive, children, descriptors, eventually, kill, socket_inodes, stat
from conftest import Tree

from pitboss import _keeper

STARTS_A_THREAD = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"


def test_the_counter_of_survivors_sees_them(tree: Tree) -> None:
    launcher = tree.launcher()
    launcher.begin()
    worker = launcher.spawn()
    assert sorted(alive(tree.token)) == sorted([launcher.pid, worker.keeper, worker.pid])


def test_hello(tree: Tree) -> None:
    launcher = tree.launcher()
    ready = launcher.begin()
    hello = launcher.hello
    assert (hello["pid"], hello["ppid"], hello["protocol"]) == (launcher.pid, os.getpid(), 1)
    assert hello["python"] == "%d.%d.%d" % sys.version_info[:3]
    assert os.path.samefile(hello["executable"], sys.executable)
    assert (ready["start"], ready["refusal"], ready["preloaded"]) == ("fork", None, [])


def test_both_halves_start_python_with_the_same_lines() -> None:
    go = (Path(LIBRARY).parents[1] / "agent" / "launcher.go").read_text()
    found = re.search(r"const boot = `(.*?)`", go, re.DOTALL)
    assert found is not None and found.group(1) == _keeper.BOOT


def test_preload_goes_in_order_and_is_shared_by_the_workers(tree: Tree) -> None:
    path = tree.module("first", "import os\nPID = os.getpid()\n")
    tree.module("second", "import first\n")
    adapter = tree.directory / "adapter.py"
    adapter.write_text("import first, pitboss\n@pitboss.tool\ndef importer() -> int:\n    return first.PID\n")
    launcher = tree.launcher()
    assert launcher.begin(preload=["first", "second"], path=[path])["preloaded"] == ["first", "second"]
    for _ in range(2):
        assert launcher.spawn().ready(adapter=str(adapter)).call("importer") == launcher.pid


def test_guardians_have_another_niceness_than_preloads_and_workers(tree: Tree) -> None:
    mine, limit = os.getpriority(os.PRIO_PROCESS, 0), resource.getrlimit(resource.RLIMIT_NICE)
    path = tree.module("warm", "import os\nNICE = os.getpriority(os.PRIO_PROCESS, 0)\n")
    adapter = tree.directory / "adapter.py"
    adapter.write_text(
        "import os, resource, warm, pitboss\n@pitboss.tool\ndef nice() -> list:\n"
        "    return [warm.NICE, os.getpriority(os.PRIO_PROCESS, 0), *resource.getrlimit(resource.RLIMIT_NICE)]\n"
    )
    launcher = tree.launcher()
    launcher.begin(preload=["warm"], path=[path], nice=mine + 3)  # the other direction: that needs no right
    worker = launcher.spawn()
    for pid in (launcher.pid, worker.keeper):
        assert os.getpriority(os.PRIO_PROCESS, pid) == mine + 3
    back = mine if os.geteuid() == 0 or limit[0] >= 20 - mine else mine + 3
    assert worker.ready(adapter=str(adapter)).call("nice") == [mine, back, *(min(one, 20 - mine) for one in limit)]


def test_a_preload_that_fails_ends_the_launcher_with_its_traceback(tree: Tree) -> None:
    path = tree.module("broken", "def load():\n    raise RuntimeError('no model' * 100_000)\nload()\n")
    launcher = tree.launcher()
    failed = launcher.begin(preload=["json", "broken"], path=[path])
    assert (failed["op"], failed["reason"]) == ("failed", "PRELOAD_IMPORT")
    assert failed["message"].endswith("no model") and "in load" in failed["traceback"] or "no model" in failed["traceback"]
    assert "pitboss/_" not in failed["traceback"]
    assert launcher.wait() == 1


def test_a_preload_that_exits_is_a_failure_too(tree: Tree) -> None:
    path = tree.module("leaves", "raise SystemExit(0)\n")
    launcher = tree.launcher()
    failed = launcher.begin(preload=["leaves"], path=[path])
    assert failed["op"] == "failed" and "SystemExit" in failed["message"]
    assert launcher.wait() == 1


def test_a_thread_of_a_preloaded_module_turns_fork_into_exec(tree: Tree) -> None:
    path = tree.module("threaded", STARTS_A_THREAD)
    launcher = tree.launcher()
    ready = launcher.begin(preload=["json", "threaded", "string"], path=[path])
    assert ready["start"] == "exec" and ready["preloaded"] == ["json", "threaded", "string"]
    assert ready["refusal"]["reason"] == "THREADS" and "'threaded'" in ready["refusal"]["message"]


def test_a_thread_that_starts_later_refuses_the_fork(tree: Tree) -> None:
    body = STARTS_A_THREAD.splitlines()
    path = tree.module("later", f"import signal\n{body[0]}\nsignal.signal(signal.SIGUSR2, lambda *_: {body[1]})\n")
    launcher = tree.launcher()
    assert launcher.begin(preload=["later"], path=[path])["start"] == "fork"
    launcher.spawn()
    kill(launcher.pid, signal.SIGUSR2)
    eventually(lambda: len(os.listdir(f"/proc/{launcher.pid}/task")) == 2, "a second thread")
    with pytest.raises(AssertionError, match="'refused'.*'THREADS'"):
        launcher.spawn()


def settled(launcher: Launcher) -> Dict[int, str]:
    """Its descriptors once it serves: ready comes a little before its poll is set up."""
    launcher.link.send("spawn", worker="none")
    assert launcher.link.expect("refused")["worker"] == "none"
    return descriptors(launcher.pid)


@pytest.mark.parametrize("count", [0, 1, 5, 7, 8, 20])
def test_a_wrong_number_of_descriptors_is_refused_and_all_are_closed(tree: Tree, count: int) -> None:
    launcher = tree.launcher()
    launcher.begin()
    before = settled(launcher)
    ends = [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]
    launcher.link.send("spawn", ends, worker="w", index=0, grace_us=0, env={})
    for end in ends:
        os.close(end)
    refused = launcher.link.expect("refused")
    assert (refused["worker"], refused["reason"]) == ("w", "FDS")
    assert descriptors(launcher.pid) == before
    launcher.spawn().ready()


def test_descriptors_that_the_kernel_could_not_deliver_are_refused(tree: Tree) -> None:
    launcher = tree.launcher()
    launcher.begin()
    before = settled(launcher)
    limits = resource.prlimit(launcher.pid, resource.RLIMIT_NOFILE)
    # Room for three more: the message arrives whole, with MSG_CTRUNC.
    third = [fd for fd in range(1000) if fd not in before][2]
    resource.prlimit(launcher.pid, resource.RLIMIT_NOFILE, (third + 1, limits[1]))
    ends = [os.open(os.devnull, os.O_RDONLY) for _ in range(6)]
    launcher.link.send("spawn", ends, worker="w", index=0, grace_us=0, env={})
    for end in ends:
        os.close(end)
    assert launcher.link.expect("refused")["reason"] == "FDS"
    assert descriptors(launcher.pid) == before
    resource.prlimit(launcher.pid, resource.RLIMIT_NOFILE, limits)
    launcher.spawn().ready()


def test_no_process_holds_what_is_anothers(tree: Tree, start: str) -> None:
    launcher = tree.launcher()
    launcher.begin(start=start)
    one, two = launcher.spawn().ready(), launcher.spawn().ready()
    for worker, other in ((one, two), (two, one)):
        holders = {name: socket_inodes(pid) for name, pid in (("worker", worker.pid), ("keeper", worker.keeper))}
        orders = socket_inodes(worker.keeper) & worker.inodes
        assert len(orders) == 1 and holders["keeper"] == orders  # its own link and no other socket
        assert holders["worker"] == worker.inodes - orders  # data and control
        assert not (holders["worker"] | holders["keeper"]) & other.inodes
    assert not socket_inodes(launcher.pid) & (one.inodes | two.inodes)
    # So the end of one link is seen although a sibling lives.
    one.control.close()
    assert one.ended() == (0, None)
    assert two.call("add", a=1) == 2


def test_the_worker_holds_its_six_descriptors_only(tree: Tree, start: str) -> None:
    read, write = os.pipe()  # an inheritable stray of ours must not get in
    os.set_inheritable(write, True)
    try:
        worker = tree.ready(start)
        found = descriptors(worker.pid)
        assert sorted(found) == [0, 1, 2, 3, 4, 5, 6, 7]
        assert found[6] == found[7] and found[6].startswith("pipe:")  # its own, for signals
        assert os.fstat(read).st_ino != int(found[6][6:-1])
        assert found[0] == "/dev/null" and found[5].startswith("/memfd:crash")
    finally:
        os.close(read)
        os.close(write)


def test_stop_forks_no_more_and_waits_for_the_last_keeper(tree: Tree) -> None:
    launcher = tree.launcher()
    launcher.begin()
    worker = launcher.spawn().ready()
    launcher.link.send("stop")
    with pytest.raises(AssertionError, match="'refused'.*'FORK'.*stopping"):
        launcher.spawn()
    assert worker.call("add", a=2) == 3
    worker.stop(3.0)
    assert worker.ended() == (0, None)
    assert launcher.wait() == 0


def test_the_end_of_the_link_ends_an_idle_launcher(tree: Tree) -> None:
    launcher = tree.launcher()
    launcher.begin()
    launcher.link.close()
    assert launcher.wait() == 0


def test_the_end_of_the_link_before_init_ends_it_too(tree: Tree) -> None:
    launcher = tree.launcher()
    launcher.link.close()
    assert launcher.wait() == 0


def test_after_the_end_of_the_link_keepers_are_reaped_unasked(tree: Tree) -> None:
    launcher = tree.launcher()
    launcher.begin()
    worker = launcher.spawn().ready()
    launcher.link.close()
    assert worker.call("add", a=1) == 2  # nobody told the keeper to stop
    worker.stop(3.0)
    worker.exited()
    assert launcher.wait() == 0
    assert stat(worker.keeper) == []


def test_a_keeper_is_reaped_on_demand_only(tree: Tree) -> None:
    launcher = tree.launcher()
    launcher.begin()
    one, two = launcher.spawn(), launcher.spawn()
    for worker in (one, two):
        worker.orders.send("kill")
        assert worker.exited() == (None, signal.SIGKILL)
        worker.orders.expect("empty")
        eventually(lambda pid=worker.keeper: stat(pid)[0] == "Z", "an unreaped keeper")  # type: ignore[misc]
    assert launcher.reap(two) == {"op": "reaped", "keeper": two.keeper, "status": 0, "killed": [], "left": []}
    assert stat(two.keeper) == [] and stat(one.keeper)[0] == "Z"
    assert launcher.reap(one)["status"] == 0


def test_what_a_killed_keeper_leaves_is_killed_by_the_launcher(tree: Tree) -> None:
    launcher = tree.launcher()
    launcher.begin()
    worker, sibling = launcher.spawn().ready(), launcher.spawn().ready()
    escaped = worker.call("escapees")
    kill(worker.keeper)
    reaped = launcher.reap(worker)
    assert reaped["status"] == -signal.SIGKILL
    assert set(escaped) <= set(reaped["killed"])  # its worker died by its death signal, or here
    assert sorted(alive(tree.token)) == sorted([launcher.pid, sibling.keeper, sibling.pid])
    assert children(launcher.pid) == [sibling.keeper]
    assert sibling.call("add", a=1) == 2


def test_a_launcher_of_the_wrong_parent_does_not_serve(tree: Tree) -> None:
    launcher = tree.launcher()
    launcher.hello = launcher.link.expect("hello")
    launcher.link.send("init", parent=1, start="fork", preload=[], path=[])
    assert launcher.link.receive() is None
    assert launcher.wait() == 1


def test_nonsense_on_the_link_ends_it_with_a_line(tree: Tree) -> None:
    launcher = tree.launcher()
    launcher.begin()
    launcher.link.socket.send(b"\xff{")
    assert launcher.wait() == 70
    assert "launcher failed" in launcher.stderr.read()


def test_a_link_end_is_ours_alone() -> None:
    """The positive control of the descriptor tests: an end is found where it is held."""
    link = Link()
    assert {os.fstat(link.socket.fileno()).st_ino, os.fstat(link.theirs.fileno()).st_ino} <= socket_inodes(os.getpid())
    link.close()
