"""The farm's figures for Prometheus, read from the parts when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from coordinator.leases.lease import ENDED
from coordinator.leases.ledger import Ledger
from sheepfold.contract.presence import Presence, Stage


class Beats(Protocol):
    """Counts heartbeats since the start (:class:`coordinator.upstream.heartbeat.Heartbeat`)."""

    answered: int
    #: Without an answer.
    missed: int


class PresentNodes(Protocol):
    """Who is on the LAN (:class:`coordinator.nodes.present_nodes.PresentNodes`)."""

    @property
    def nodes(self) -> Mapping[str, Presence]: ...


class _FarmCollector:
    def __init__(
        self,
        ledger: Ledger,
        present: PresentNodes,
        beats: Beats,
        archive_bytes: Callable[[], dict[str, int]],
    ) -> None:
        self._ledger, self._present, self._beats, self._archive_bytes = ledger, present, beats, archive_bytes

    def collect(self) -> Iterator[Metric]:
        leases = GaugeMetricFamily("sheepfold_leases", "Leases that are not ended, by state", labels=["state"])
        ended = CounterMetricFamily("sheepfold_frames", "Leases that ended, by how they ended", labels=["state"])
        for state, count in self._ledger.counts().items():
            (ended if state in ENDED else leases).add_metric([state.value], count)
        nodes = self._present.nodes.values()
        slots = GaugeMetricFamily("sheepfold_slots", "Slots of the PCs on the LAN", labels=["use"])
        rendering = sum(slot.stage is Stage.RENDERING for node in nodes for slot in node.busy)
        slots.add_metric(["rendering"], rendering)
        slots.add_metric(["idle"], max(0, sum(node.slots for node in nodes) - rendering))
        moved = CounterMetricFamily("sheepfold_archive_bytes", "Bytes of archives that were moved", labels=["way"])
        for way, count in self._archive_bytes().items():
            moved.add_metric([way], count)
        yield from (leases, ended, slots, moved)
        yield GaugeMetricFamily("sheepfold_nodes", "PCs on the LAN", value=len(nodes))
        yield CounterMetricFamily("sheepfold_beats", "Heartbeats the server answered", value=self._beats.answered)
        yield CounterMetricFamily("sheepfold_missed_beats", "Heartbeats without an answer", value=self._beats.missed)


def make_metrics(
    ledger: Ledger,
    present: PresentNodes,
    beats: Beats,
    archive_bytes: Callable[[], dict[str, int]] = dict,
) -> CollectorRegistry:
    """A registry that reads the farm afresh at every scrape.

    ``archive_bytes``: bytes since the start, ``from_server`` and ``to_lan``.
    """
    registry = CollectorRegistry()
    registry.register(_FarmCollector(ledger, present, beats, archive_bytes))  # type: ignore[arg-type]
    return registry
