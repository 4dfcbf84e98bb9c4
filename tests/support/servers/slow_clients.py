"""Clients that are slow on purpose, and what they cost everybody else."""

from __future__ import annotations

import contextlib
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psutil

from sheepfold.serving.file_limit import raise_file_limit

#: What an attack may take from the work of others, and of the server's memory.
AT_LEAST, MORE_MEMORY = 0.9, 64 * 1024 * 1024
#: A step may wait until the first rush of an attack is over; who asks waits ten seconds (seconds).
STALL_S = 5.0
#: Attacks until a measurement is judged first; each ends with this time without honest work (seconds).
ATTACKS, IDLE_S = 6, 0.5
#: On a busy machine so few say little: where the ratio is not reached there are more, and all of them count.
MOST_ATTACKS, LONGEST_S = 24, 150.0

Steps = Sequence[Callable[[], object]]
Attack = Callable[[], contextlib.AbstractContextManager[None]]


def connect(port: int, address: str = "127.0.0.1") -> socket.socket:
    """A client at this address."""
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(address, 0))


@contextmanager
def half_heads(port: int, address: str = "127.0.0.1", count: int = 1200) -> Iterator[None]:
    """Many connections send the first half of a request and no token."""
    with ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(connect(port, address))
            with contextlib.suppress(OSError):  # a new one takes the place of an old one
                client.sendall(b"GET /archives/x HTTP/1.1\r\nHost: x\r\nX-Half: ")
        yield


@contextmanager
def dripping(clients: Sequence[socket.socket], every_s: float = 0.2) -> Iterator[None]:
    """Each client sends a byte now and then."""
    done = threading.Event()

    def drip() -> None:
        while not done.wait(every_s):
            for client in clients:
                with contextlib.suppress(OSError):
                    client.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Steps of honest work at a server under attack, each beside the same step at its twin that nobody attacks.

    A step and its twin are milliseconds apart: what else the machine does holds up both alike.
    """

    #: Seconds of each step: at the twin, at the server.
    pairs_s: tuple[tuple[float, float], ...]
    #: Of one processor, while nobody does honest work: what the twin's steps pay for an attack, too.
    attack_cpu: float
    grown_bytes: int

    @property
    def ratio(self) -> float:
        """Steps in a second during an attack, as a share of those without."""
        return statistics.median(quiet / attacked for quiet, attacked in self.pairs_s) * (1 - self.attack_cpu)

    def check(self) -> None:
        """Raises AssertionError where an attack slows work down, stops it for a time, or fills memory."""
        longest_quiet, longest = (max(seconds) for seconds in zip(*self.pairs_s, strict=True))
        print(
            f"{len(self.pairs_s)} steps, ratio {self.ratio:.3f} (attack alone: {self.attack_cpu:.1%} of a processor), "
            f"longest step {longest:.3f} s, at the twin {longest_quiet:.3f} s; {self.grown_bytes / 1e6:.0f} MB more"
        )
        assert self.ratio >= AT_LEAST
        assert longest < max(STALL_S, 2 * longest_quiet), "a step waits for attackers"
        assert self.grown_bytes < MORE_MEMORY


def compare(twin: Callable[[], Steps], server: Callable[[], Steps], attack: Attack) -> Comparison:
    """Measures steps at the server and at its twin by turns, under one attack after the other."""
    raise_file_limit()
    for step in (*twin(), *server()):  # what is made once is made
        step()
    process, before = psutil.Process(), psutil.Process().memory_info().rss
    began, pairs, idle_cpu, grown = time.monotonic(), list[tuple[float, float]](), list[float](), 0
    while True:
        steps = list(zip(twin(), server(), strict=True))
        with attack():
            pairs += _pairs(steps)
            # Not before: an attacker in this process has just been at work himself.
            idle_cpu.append(_cpu_share())
            grown = max(grown, process.memory_info().rss - before)
        so_far = Comparison(pairs_s=tuple(pairs), attack_cpu=statistics.median(idle_cpu), grown_bytes=grown)
        if _is_enough(so_far, len(idle_cpu), time.monotonic() - began):
            return so_far


def _is_enough(so_far: Comparison, attacks: int, seconds: float) -> bool:
    if attacks >= ATTACKS and so_far.ratio >= AT_LEAST:
        return True
    return attacks >= MOST_ATTACKS or (attacks >= ATTACKS and seconds > LONGEST_S)


def _pairs(steps: Sequence[tuple[Callable[[], object], Callable[[], object]]]) -> Iterator[tuple[float, float]]:
    """Seconds of each step at the twin and at the server; each of them begins every other time."""
    for number, (quiet, attacked) in enumerate(steps):
        if number % 2:
            yield _seconds(quiet), _seconds(attacked)
        else:
            second = _seconds(attacked)
            yield _seconds(quiet), second


def _cpu_share() -> float:
    """What this process takes of one processor while it does nothing but bear an attack."""
    began, began_cpu = time.monotonic(), time.process_time()
    time.sleep(IDLE_S)  # the rate is what is measured
    return (time.process_time() - began_cpu) / (time.monotonic() - began)


def _seconds(step: Callable[[], object]) -> float:
    began = time.monotonic()
    step()
    return time.monotonic() - began
