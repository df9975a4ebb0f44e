"""sha256 and gzip size of files: compare `sha256sum`.

    pitboss run examples/hash_tree.py digest path=README.md
    pitboss run examples/hash_tree.py tree root=docs
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
def tree(root: str) -> Iterator[Dict[str, Any]]:
    """The same for every file below a directory, in the order of their paths, one item per file."""
    for directory, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield digest(path)
