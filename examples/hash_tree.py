"""sha256 and gzip of files: compare `sha256sum`, `gzip -l` and `gzip -dc`.

    pitboss run examples/hash_tree.py digest path=README.md
    pitboss run examples/hash_tree.py tree root=docs
    pitboss --socket PATH call compress path=README.md --out README.md.gz
"""

from __future__ import annotations

import gzip
import hashlib
import os
from typing import Any, Dict, Iterator

import pitboss


@pitboss.tool
def digest(path: str) -> Dict[str, Any]:
    """sha256, size and gzip size of one file."""
    with open(path, "rb") as file:
        data = file.read()
    return {
        "path": path,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "gzip_size": len(gzip.compress(data, mtime=0)),
    }


@pitboss.tool
def compress(path: str) -> bytes:
    """The file in gzip format, as ``gzip -dc`` reads it."""
    with open(path, "rb") as file:
        return gzip.compress(file.read(), mtime=0)


@pitboss.tool
def tree(root: str) -> Iterator[Dict[str, Any]]:
    """The same for every file below a directory, in the order of their paths, one item per file."""
    for directory, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield digest(path)
