"""The page of metrics, from the collector that Prometheus reads at `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from prometheus_client import Metric

from coordinator.api.metrics import make_metrics
from coordinator.leases.lease import LeaseState
from coordinator.nodes.present_nodes import PresentNodes

from .markdown import code, page, plain, table

INTRODUCTION = """
`GET /metrics` of the coordinator, for the role `viewer`. Counters begin at zero when the coordinator
starts, but for `sheepfold_frames_total`, which counts the whole ledger. [Watch a farm](../how-to/watch.md) says what
to look for.
"""


def page_text() -> str:
    """What a coordinator's ``/metrics`` offers, read from its collector."""
    return page("Metrics", INTRODUCTION, table(("name", "type", "labels", "meaning"), map(_row, _collected())))


def _collected() -> Iterator[Metric]:
    """What a farm without frames and PCs tells: every name, and every value that a label can have."""
    nothing: Any = SimpleNamespace(counts=lambda: dict.fromkeys(LeaseState, 0))
    heartbeats: Any = SimpleNamespace(answered=0, missed=0)
    moved = {"from_server": 0, "to_lan": 0}
    yield from make_metrics(nothing, PresentNodes(), heartbeats, lambda: moved).collect()


def _row(metric: Metric) -> tuple[str, str, str, str]:
    name = metric.name + ("_total" if metric.type == "counter" else "")
    labels: dict[str, list[str]] = {}
    for sample in metric.samples:
        for label, value in sample.labels.items():
            labels.setdefault(label, []).append(code(value))
    text = "; ".join(f"{code(label)}: {', '.join(values)}" for label, values in labels.items())
    return code(name), metric.type, text, plain(metric.documentation)
