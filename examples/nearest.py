"""The rows of a matrix that are nearest to a query, with numpy; numbers travel as raw bytes, without base64.

    pitboss run --preload numpy examples/nearest.py      # imported once, shared by every worker
    pitboss --socket PATH call nearest matrix=@rows.f32 query=@one.f32 k=3

Both files hold little-endian 32-bit floats: the query one row, the matrix any number of rows of the same length.
Needs numpy in the interpreter of the pool; pitboss itself does not.
"""

from __future__ import annotations

from typing import Any, Dict

import pitboss


@pitboss.tool
def nearest(matrix: bytes, query: bytes, k: int = 5) -> Dict[str, Any]:
    """The k rows of least Euclidean distance, nearest first; of two at the same distance the earlier row.

    k: at most this many rows, 1 or more.

    Returns the numbers of the rows, their distances, and the rows themselves as bytes.
    """
    import numpy  # here, so that the tools are listed where it is missing and the call says what is

    one = numpy.frombuffer(query, dtype="<f4")
    if k < 1 or one.size == 0 or len(query) % 4 or len(matrix) % len(query):
        message = f"cannot compare {len(matrix)} bytes of rows with a query of {len(query)} bytes (k {k})"
        raise pitboss.ToolError(message, reason="BAD_SHAPE")
    rows = numpy.frombuffer(matrix, dtype="<f4").reshape(-1, one.size)
    squares = ((rows.astype("f8") - one) ** 2).sum(axis=1)
    order = numpy.argsort(squares, kind="stable")[:k]
    return {
        "rows": order.tolist(),
        "distances": numpy.sqrt(squares[order]).tolist(),
        "values": rows[order].tobytes(),
    }
