from __future__ import annotations

from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from coordinator.api.metrics import make_metrics
from coordinator.leases.lease import LeaseEvent
from coordinator.leases.ledger import Ledger
from coordinator.nodes.present_nodes import PresentNodes
from sheepfold.contract.presence import Stage
from tests.support.coordinator.builders import offer, rendering
from tests.support.coordinator.fakes import KEY, node, slot


@dataclass
class FakeHeartbeat:
    missed: int
    answered: int = 0


def scraped(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    """(name, label) → value, read as Prometheus reads it."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def test_leases_under_way_and_leases_that_ended_are_counted_apart(ledger: Ledger) -> None:
    registry = make_metrics(ledger, PresentNodes(), FakeHeartbeat(missed=0))
    rendering(ledger, "0001")
    ledger.grant(offer("0002"), KEY)
    ended = rendering(ledger, "0003")
    ledger.apply(ended.id, LeaseEvent.CANCEL)
    found = scraped(registry)
    assert found["sheepfold_leases", "rendering"] == 1
    assert found["sheepfold_leases", "granted"] == 1
    assert found["sheepfold_frames_total", "cancelled"] == 1
    assert found["sheepfold_frames_total", "accepted"] == 0, "a series is there before its first frame"
    assert ("sheepfold_leases", "cancelled") not in found
    assert ("sheepfold_frames_total", "rendering") not in found


def test_every_scrape_reads_the_farm_afresh(ledger: Ledger) -> None:
    present = PresentNodes()
    beats = FakeHeartbeat(missed=0)
    registry = make_metrics(ledger, present, beats)
    assert scraped(registry)["sheepfold_nodes", ""] == 0
    present.nodes, beats.missed, beats.answered = {"n1": node()}, 3, 7
    found = scraped(registry)
    assert (found["sheepfold_nodes", ""], found["sheepfold_missed_beats_total", ""]) == (1, 3)
    assert found["sheepfold_beats_total", ""] == 7


@pytest.mark.parametrize(
    ("stages", "slots", "rendering_slots", "idle"),
    [
        ((), 2, 0, 2),
        ((Stage.RENDERING,), 2, 1, 1),
        ((Stage.RENDERING, Stage.FETCHING, Stage.WAITING, Stage.DELIVERING), 2, 1, 1),
        ((Stage.RENDERING, Stage.RENDERING), 1, 2, 0),
    ],
)
def test_a_slot_is_used_only_by_what_renders(
    ledger: Ledger, stages: tuple[Stage, ...], slots: int, rendering_slots: int, idle: int
) -> None:
    lease = rendering(ledger)
    present = PresentNodes()
    present.nodes = {"n1": node(slots=slots, busy=tuple(slot(lease, stage) for stage in stages))}
    found = scraped(make_metrics(ledger, present, FakeHeartbeat(missed=0)))
    assert found["sheepfold_slots", "rendering"] == rendering_slots
    assert found["sheepfold_slots", "idle"] == idle


def test_bytes_of_archives_are_counted_by_their_way(ledger: Ledger) -> None:
    registry = make_metrics(
        ledger, PresentNodes(), FakeHeartbeat(missed=0), lambda: {"from_server": 200, "to_lan": 700}
    )
    found = scraped(registry)
    assert found["sheepfold_archive_bytes_total", "from_server"] == 200
    assert found["sheepfold_archive_bytes_total", "to_lan"] == 700
