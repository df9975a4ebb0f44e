"""Runs the script as it is, with its arguments, and returns what it printed and its exit code."""

import contextlib
import io
import os
import runpy
import sys
from typing import List

import pitboss

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "legacy_script.py")


@pitboss.tool
def run(arguments: List[str]) -> dict:
    """python legacy_script.py ARGUMENTS"""
    printed, code, before = io.StringIO(), 0, (sys.argv, os.getcwd())
    sys.argv = [SCRIPT] + arguments
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(SCRIPT, run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = before[0]
        os.chdir(before[1])
    return {"code": code, "output": printed.getvalue()}
