"""Fuzz tests end by the clock: in CI each target is tried for 20 seconds, on a laptop for two."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

#: Seconds of one target (a file of ``tests/fuzz``); ``make fuzz`` and CI take their time.
SECONDS = float(os.environ.get("SHEEPFOLD_FUZZ_S") or (20 if os.environ.get("CI") else 2))
#: Examples between two looks at the clock.
_ROUND = 50


def fuzzed(*, share: float = 1.0) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Stands above ``@given``: new examples until this test's share of its target's time is over.

    A failure is shrunk and shown as always, however long that takes.
    """

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        bounded = settings(
            max_examples=_ROUND, deadline=None, derandomize=False, suppress_health_check=list(HealthCheck)
        )(test)

        @functools.wraps(bounded)
        def run(*arguments: Any, **named: Any) -> None:
            ends, rounds = time.monotonic() + SECONDS * share, 0
            while rounds == 0 or time.monotonic() < ends:
                bounded(*arguments, **named)
                rounds += 1
            print(f"{rounds} rounds of {_ROUND} examples")

        return run

    return decorate


@st.composite
def damaged(draw: st.DrawFn, honest: bytes) -> bytes:
    """Honest bytes with some changed, left out, doubled or put in, and perhaps cut off."""
    content = bytearray(honest)
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(content)))
        match draw(st.integers(0, 3)):
            case 0:
                content[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del content[at : at + draw(st.integers(1, 40))]
            case 2:
                content[at:at] = content[at : at + draw(st.integers(1, 200))]
            case _:
                content[at:at] = draw(st.binary(max_size=12))
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.integers(0, 9)) == 0 else content)
