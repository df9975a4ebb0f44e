"""From the start gate to READY or FAILED: ipc/PROTOCOL.md §1."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from agent_end import BEHAVIOURS, eventually
from conftest import Tree

from pitboss import _wire


def test_nothing_of_the_users_runs_before_go(tree: Tree, start: str) -> None:
    worker = tree.worker(start)
    for stamp in (1, 2**64 - 1):  # it answers, so it waits behind its gate
        assert worker.ping(stamp)["calls"] == []
    assert tree.notes() == []
    worker.ready()
    assert tree.notes() == ["imported", "setup"]
    assert worker.doing == [f"importing {BEHAVIOURS}", "running setup of Behaviours"]


def test_no_end_at_the_start_is_missed(tree: Tree) -> None:
    """TERM at any moment between the fork and the wait for GO."""
    launcher = tree.launcher()
    launcher.begin()
    for _ in range(60):
        worker = launcher.spawn(grace=600.0)
        worker.ping()
        worker.stop(600.0)
        code, signum = worker.ended()
        assert code == 0 or signum == signal.SIGTERM  # before its handler is in place
        worker.close()


@pytest.mark.parametrize("how", ["eof", "stop"])
def test_an_end_behind_the_gate_runs_nothing(tree: Tree, start: str, how: str) -> None:
    worker = tree.worker(start)
    worker.ping()
    if how == "eof":
        worker.control.close()
    else:
        worker.stop(30.0)
    assert worker.ended() == (0, None)
    assert tree.notes() == []


def test_ready_says_what_there_is(tree: Tree) -> None:
    worker = tree.worker()
    body = json.loads(worker.go().json)
    assert (body["pid"], body["python"]) == (worker.pid, "%d.%d.%d" % sys.version_info[:3])
    rows = {row["name"]: row for row in body["tools"]}
    assert rows["add"]["params"] == [
        {"name": "a", "required": True, "type": "int"},
        {"name": "b", "required": False, "type": "int", "default": 1},
    ]
    assert rows["stream"]["stream"] is True and rows["add"]["stream"] is False


ODD_TYPES = """
import enum, pitboss
from typing import Any, Literal
class Color(enum.Enum):
    RED = 1
@pitboss.tool
def typed(text: str, limit: float = float("inf"), mode: Literal["a", b"b", Color.RED] = "a", pair: Any = (1, 2)) -> str:
    return text
"""


def test_defaults_and_types_that_json_cannot_say(tree: Tree) -> None:
    adapter = tree.directory / "adapter.py"
    adapter.write_text(ODD_TYPES)
    worker = tree.worker().ready(adapter=str(adapter))  # ready() refuses NaN and Infinity as Go does
    (row,) = worker.tools.values()
    defaults = {p["name"]: p.get("default") for p in row["params"]}
    assert defaults == {"text": None, "limit": {"$float": "inf"}, "mode": "a", "pair": [1, 2]}
    assert row["schema"]["properties"]["mode"] == {}  # an enum that names one of three values would be wrong
    assert worker.call("typed", text="x") == "x"


@pytest.mark.parametrize(
    ("text", "reason", "named"),
    [
        ("def load():\n    raise RuntimeError('no model')\nload()\n", "ADAPTER_IMPORT", "in load"),
        ("import does_not_exist\n", "ADAPTER_IMPORT", "ModuleNotFoundError"),
        ("raise SystemExit(0)\n", "ADAPTER_IMPORT", "SystemExit"),
        ("x = (\n", "ADAPTER_IMPORT", "SyntaxError"),
        ("x = 1\n", "ADAPTER_INVALID", "no tools"),
        (
            "import pitboss\nclass A:\n    @pitboss.tool\n    def f(self): ...\n",
            "ADAPTER_INVALID",
            "class A has marked methods, but is not derived from pitboss.Adapter",
        ),
        ("import pitboss\n@pitboss.tool\ndef f(*a): ...\n", "ADAPTER_INVALID", "arguments come by name"),
        (
            "import pitboss\nclass A(pitboss.Adapter):\n"
            "    def setup(self): raise ValueError('s')\n    @pitboss.tool\n    def f(self): ...\n",
            "SETUP_RAISED",
            "ValueError: s",
        ),
    ],
)
def test_failed_says_why(tree: Tree, text: str, reason: str, named: str) -> None:
    adapter = tree.directory / "adapter.py"
    adapter.write_text(text)
    worker = tree.worker()
    frame = worker.go(adapter=str(adapter))
    body = json.loads(frame.json)
    assert (frame.type, body["reason"]) == (_wire.FAILED, reason)
    assert named in body["traceback"] and "pitboss/_" not in body["traceback"]
    assert worker.ended() == (1, None)


@pytest.mark.parametrize(("name", "named"), [("Missing", "no class 'Missing'"), ("note", "no class 'note'")])
def test_failed_for_a_class_that_is_none(tree: Tree, name: str, named: str) -> None:
    worker = tree.worker()
    body = json.loads(worker.go(adapter=f"{BEHAVIOURS}:{name}").json)
    assert body["reason"] == "ADAPTER_INVALID" and named in body["message"]
    assert worker.ended() == (1, None)


def test_more_tools_than_a_control_frame_holds(tree: Tree) -> None:
    adapter = tree.directory / "adapter.py"
    adapter.write_text("import pitboss\n@pitboss.tool\ndef f(): ...\nf.__doc__ = 'x' * (1 << 20)\n")
    worker = tree.worker()
    frame = worker.go(adapter=str(adapter))
    body = json.loads(frame.json)
    assert (frame.type, body["reason"]) == (_wire.FAILED, "ADAPTER_INVALID") and "1048576" in body["message"]
    assert worker.ended() == (1, None)


def test_a_module_is_found_below_the_path_of_init(tree: Tree, start: str) -> None:
    path = tree.module("my_tools", "import pitboss\n@pitboss.tool\ndef where() -> str:\n    return __file__\n")
    launcher = tree.launcher()
    launcher.begin(start=start, path=[path])
    worker = launcher.spawn().ready(adapter="my_tools", workdir=path)
    assert worker.call("where") == os.path.join(path, "my_tools.py")


def test_the_library_comes_first_and_a_users_struct_breaks_nothing(tree: Tree, start: str) -> None:
    path = tree.module("struct", "raise RuntimeError('not the one')\n")
    tree.module("pitboss", "raise RuntimeError('not the one')\n")
    launcher = tree.launcher()
    launcher.begin(start=start, path=[path])
    assert launcher.spawn().ready(workdir=path).call("add", a=1) == 2


def test_an_end_during_the_import_is_an_end(tree: Tree) -> None:
    adapter = tree.directory / "adapter.py"
    adapter.write_text(f"import os, time\nopen({str(tree.notes_file)!r}, 'w').write('importing\\n')\ntime.sleep(60)\n")
    worker = tree.worker()
    body = {"adapter": str(adapter), "workdir": "/", "payload_limit": 1 << 20, "pool": "p", "worker": "w", "index": 0, "run_id": "r"}
    body["serialization"] = "strict"
    worker.control.send(_wire.GO, 0, body)
    tree.noted("importing")
    worker.control.close()
    assert worker.ended() == (0, None)


def test_a_worker_without_a_keeper_does_not_start(tree: Tree) -> None:
    """An executed worker whose keeper died before it armed its death signal."""
    worker = tree.ready("exec")
    argv = Path(f"/proc/{worker.pid}/cmdline").read_bytes().split(b"\0")[:-1]
    pid = os.posix_spawn(sys.executable, [*argv[:5], b"1", *argv[6:]], {}, setpgroup=0)
    _, status = eventually(lambda: (lambda found: found if found[0] else None)(os.waitpid(pid, os.WNOHANG)), "its exit")
    assert os.WEXITSTATUS(status) == 70


def test_a_new_version_of_the_same_size_and_time_is_the_one_that_runs(tree: Tree) -> None:
    adapter = tree.directory / "adapter.py"
    for version in ("one", "two"):
        adapter.write_text(f"import pitboss\n\n@pitboss.tool\ndef version() -> str:\n    return {version!r}\n")
        os.utime(adapter, (1_000_000_000, 1_000_000_000))
        worker = tree.worker(env={"PYTHONDONTWRITEBYTECODE": ""}).ready(adapter=str(adapter))  # the cache is the default
        assert worker.call("version") == version
