"""The farm's figures for Prometheus, read from the parts when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from render_tasks.contract import Presence, Stage

from .leases import ENDED
from .ledger import Ledger


class Misses(Protocol):
    """Counts heartbeats without an answer."""

    missed: int


class _FarmCollector:
    def __init__(self, ledger: Ledger, present: Callable[[], dict[str, Presence]], beats: Misses) -> None:
        self._ledger, self._present, self._beats = ledger, present, beats

    def collect(self) -> Iterator[Metric]:
        leases = GaugeMetricFamily("sheepfold_leases", "Leases that are not ended, by state", labels=["state"])
        ended = CounterMetricFamily("sheepfold_frames", "Leases that ended, by how they ended", labels=["state"])
        for state, count in self._ledger.counts().items():
            (ended if state in ENDED else leases).add_metric([state.value], count)
        nodes = self._present().values()
        slots = GaugeMetricFamily("sheepfold_slots", "Slots of the PCs on the LAN", labels=["use"])
        rendering = sum(slot.stage is Stage.RENDERING for node in nodes for slot in node.busy)
        slots.add_metric(["rendering"], rendering)
        slots.add_metric(["idle"], max(0, sum(node.slots for node in nodes) - rendering))
        yield from (leases, ended, slots)
        yield GaugeMetricFamily("sheepfold_nodes", "PCs on the LAN", value=len(nodes))
        yield CounterMetricFamily("sheepfold_missed_beats", "Heartbeats without an answer", value=self._beats.missed)


def make_metrics(ledger: Ledger, present: Callable[[], dict[str, Presence]], beats: Misses) -> CollectorRegistry:
    """A registry that reads the farm afresh at every scrape."""
    registry = CollectorRegistry()
    registry.register(_FarmCollector(ledger, present, beats))  # type: ignore[arg-type]
    return registry
