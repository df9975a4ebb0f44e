"""What user code does in the last steps of a worker does not keep it, and is told."""

from __future__ import annotations

import pytest
from conftest import Tree

ADAPTER = """
import atexit, sys
import pitboss

class Closing(pitboss.Adapter):
    def teardown(self):
        {teardown}

    @pitboss.tool
    def arm(self) -> None:
        {arm}
"""


@pytest.mark.parametrize(
    ("teardown", "arm", "told"),
    [
        ("raise RuntimeError('no room')", "pass", ["pitboss: teardown raised:", "RuntimeError: no room"]),
        ("sys.exit(3)", "pass", ["pitboss: teardown raised:", "SystemExit: 3"]),
        ("sys.stdout = object()", "pass", []),
        ("sys.stderr.close(); raise RuntimeError('nobody hears it')", "pass", []),
        ("pass", "atexit.register(lambda: 1 / 0)", ["ZeroDivisionError"]),
        ("pass", "atexit.register(sys.exit, 3)", []),
        ("atexit.register(print, 'last words', file=sys.stderr)", "pass", ["last words"]),
    ],
)
def test_the_end_is_an_end(tree: Tree, teardown: str, arm: str, told: list[str]) -> None:
    adapter = tree.directory / "closing.py"
    adapter.write_text(ADAPTER.format(teardown=teardown, arm=arm))
    worker = tree.worker().ready(adapter=str(adapter))
    worker.call("arm")
    worker.stop(60.0)
    assert worker.ended() == (0, None)
    said = worker.stderr.read()
    for text in told:
        assert text in said
    if not told:
        assert "raised" not in said
