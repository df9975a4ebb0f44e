"""What concurrent.futures.ProcessPoolExecutor takes for the same 64-byte echo.

usage: executor.py latency COUNT     one worker, one call at a time: ns per call, one a line
       executor.py throughput COUNT  two workers, 16 calls in flight: calls per second
"""

import sys
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait


def echo(text: str) -> str:
    return text


def main() -> None:
    mode, count = sys.argv[1], int(sys.argv[2])
    text = "x" * 64
    with ProcessPoolExecutor(1 if mode == "latency" else 2) as pool:
        for _ in range(200):
            pool.submit(echo, text).result()
        if mode == "latency":
            for _ in range(count):
                begin = time.perf_counter_ns()
                pool.submit(echo, text).result()
                print(time.perf_counter_ns() - begin)
            return
        begin = time.perf_counter()
        running = {pool.submit(echo, text) for _ in range(16)}
        left = count - 16
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for _ in done:
                if left > 0:
                    left -= 1
                    running.add(pool.submit(echo, text))
        print(count / (time.perf_counter() - begin))


if __name__ == "__main__":
    main()
