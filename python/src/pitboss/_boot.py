"""First Python of a launcher, and of a worker that starts with a fresh interpreter."""

from __future__ import annotations

import sys
from typing import List


def main(argv: List[str]) -> None:
    """``argv`` is ``-c launcher LIBDIR`` or ``-c worker LIBDIR KEEPER PATH...``."""
    role = argv[1]
    if role == "launcher":
        from pitboss._launcher import run_launcher

        run_launcher(argv[2])
    elif role == "worker":
        from pitboss._keeper import enter_worker

        sys.path[1:1] = argv[4:]
        enter_worker(int(argv[3]))
    else:
        raise SystemExit(f"pitboss: unknown role {role!r}")
