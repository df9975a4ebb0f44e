"""Tools behind a web application: one class for each pool, so that a pool loads only what is its own."""

import html
from typing import List

import pitboss


class Pages(pitboss.Adapter):
    @pitboss.tool
    def table(self, rows: List[List[str]]) -> str:
        """Rows as an HTML table."""
        cells = ("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        return "<table>" + "".join(cells) + "</table>"


class Reports(pitboss.Adapter):
    @pitboss.tool
    def primes(self, below: int):
        """Every prime, as it is found."""
        sieve = bytearray([1]) * below
        for n in range(2, below):
            if sieve[n]:
                sieve[n * n :: n] = bytes(len(range(n * n, below, n)))
                yield n
