"""The tools that are measured."""

import os
import signal
import time

import pitboss


if os.environ.get("BENCH_IGNORE_TERM"):

    class Stubborn(pitboss.Adapter):
        def teardown(self) -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            while True:
                signal.sigwait([signal.SIGUSR1])

        @pitboss.tool
        def echo(self, text: str) -> str:
            return text

else:

    @pitboss.tool
    def echo(text: str) -> str:
        return text

    @pitboss.tool
    def pause(seconds: float) -> None:
        time.sleep(seconds)

    @pitboss.tool
    def print_on(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            print("the quick brown fox jumps over the lazy dog")
