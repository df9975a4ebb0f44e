"""The adapter that the example clients call."""

import pitboss


@pitboss.tool
def add(a: int, b: int) -> int:
    """The sum of two whole numbers."""
    return a + b


@pitboss.tool
def reverse(data: bytes) -> bytes:
    """Binary in, binary out."""
    return data[::-1]


@pitboss.tool
def count(n: int):
    """Counts to n: a generator is a stream."""
    for i in range(n):
        yield {"i": i}


@pitboss.tool
def refuse(retryable: bool) -> None:
    """Fails deliberately."""
    raise pitboss.ToolError("the disk is full", reason="DISK_FULL", data={"free": 0}, retryable=retryable)
