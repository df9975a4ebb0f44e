"""Full-text search over the Python standard library's own sources.

    pitboss run examples/search_stdlib.py        # stays up and prints its socket
    pitboss --socket PATH call index             # a stream tool: progress as it goes
    pitboss --socket PATH call search query="weakref callback" limit=3
    pitboss --socket PATH call count word=import

Every line of every ``*.py`` file is one row of an SQLite FTS5 table in one file, so that any worker
can answer for an index that another worker built. The relation to check it by:

    count(word) == the sum of LC_ALL=C grep -r -a -i -w -F -c --include=*.py --exclude-dir=site-packages WORD ROOT

``index`` replaces the old index in one transaction: an indexer that is killed half-way leaves the old one
as it was, and others go on searching in it meanwhile.

Needs nothing but the standard library (SQLite with FTS5, as every common build of Python has it).
"""

import os
import re
import sqlite3
import sysconfig
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pitboss

# What grep -w calls a word in the C locale; every other byte separates words.
WORD_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"
WORDS_ONLY = bytes(byte if byte in WORD_BYTES else ord(" ") for byte in range(256))
WORD = re.compile(r"[A-Za-z0-9_]+")

FILES_PER_REPORT = 100

# The ascii tokenizer folds the case of ASCII letters only, as grep -i does in the C locale.
SCHEMA = """
CREATE VIRTUAL TABLE lines USING fts5(
    words, path UNINDEXED, number UNINDEXED, text UNINDEXED,
    tokenize = "ascii tokenchars '_'", columnsize = 0, detail = column)
"""


def default_db() -> str:
    """The index of this user: search_stdlib.db in the user's cache directory."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(cache, "pitboss", "search_stdlib.db")


def python_files(root: str) -> Iterator[str]:
    """Regular ``*.py`` files under root, sorted; the same files that the grep above reads."""
    for directory, subdirectories, names in os.walk(root):
        subdirectories[:] = sorted(set(subdirectories) - {"site-packages"})
        for name in sorted(names):
            path = os.path.join(directory, name)
            if name.endswith(".py") and not os.path.islink(path):
                yield path


def rows(path: str) -> Iterator[tuple[str, str, int, str]]:
    """One row per line of a file: its words, the file, the line number from 1, and the line itself."""
    for number, line in enumerate(Path(path).read_bytes().split(b"\n"), start=1):
        words = line.translate(WORDS_ONLY).decode("ascii").strip()
        if words:
            yield words, path, number, line.decode("utf-8", errors="replace").strip()


def open_index(db: str) -> sqlite3.Connection:
    """The index for reading. Raises ``ToolError`` when nobody has built it yet."""
    path = Path(db or default_db()).absolute()
    if not path.exists():
        raise pitboss.ToolError(f"cannot search {str(path)!r}: no such index; call index first", reason="NO_INDEX")
    return sqlite3.connect(path, timeout=60)


@pitboss.tool
def index(root: str = "", db: str = "") -> Iterator[dict[str, Any]]:
    """Index every line of every Python file below a directory.

    root: the directory; by default the standard library of the interpreter that runs this.
    db: the file to keep the index in; by default search_stdlib.db in the user's cache directory.

    Yields the files and lines read so far, after every 100 files and at the end, where ``done`` is true.
    """
    root = root or sysconfig.get_path("stdlib")
    if not os.path.isdir(root):
        raise pitboss.ToolError(f"cannot index {root!r}: not a directory", reason="NO_ROOT")
    path = Path(db or default_db()).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    files = lines = 0
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as connection:
        # WAL: whoever searches meanwhile reads the old index until COMMIT.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DROP TABLE IF EXISTS lines")
        connection.execute(SCHEMA)
        for file in python_files(root):
            lines += connection.executemany("INSERT INTO lines VALUES (?, ?, ?, ?)", rows(file)).rowcount
            files += 1
            if files % FILES_PER_REPORT == 0:
                yield {"files": files, "lines": lines, "done": False}
        connection.execute("COMMIT")
    yield {"files": files, "lines": lines, "done": True, "seconds": round(time.monotonic() - began, 3)}


@pitboss.tool
def search(query: str, limit: int = 10, db: str = "") -> list[dict[str, Any]]:
    """The lines that contain all the words of a query, best first.

    query: words of ASCII letters, digits and underscores; anything else separates them.
    limit: at most this many lines, 1 to 1000.
    db: the index, as given to index.
    """
    words = WORD.findall(query)
    if not words:
        raise pitboss.ToolError(f"cannot search for {query!r}: no word in it", reason="NO_WORD")
    if not 1 <= limit <= 1000:
        raise pitboss.ToolError(f"cannot return {limit} lines: limit is 1 to 1000", reason="BAD_LIMIT")
    # Quoted, so that AND, NEAR and the like are words too and no query is a syntax error.
    match = " ".join(f'"{word}"' for word in words)
    with closing(open_index(db)) as connection:
        found = connection.execute(
            "SELECT path, number, text FROM lines WHERE words MATCH ? ORDER BY rank, path, number LIMIT ?",
            (match, limit),
        )
        return [{"path": path, "line": number, "text": text} for path, number, text in found]


@pitboss.tool
def count(word: str, db: str = "") -> int:
    """How many lines contain a word, in any case.

    word: ASCII letters, digits and underscores.
    db: the index, as given to index.
    """
    if not WORD.fullmatch(word):
        raise pitboss.ToolError(f"cannot count {word!r}: not one word", reason="NOT_A_WORD")
    with closing(open_index(db)) as connection:
        (lines,) = connection.execute("SELECT count(*) FROM lines WHERE words MATCH ?", (f'"{word}"',)).fetchone()
        return int(lines)
