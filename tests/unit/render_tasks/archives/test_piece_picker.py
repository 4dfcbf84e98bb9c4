"""Which piece next, and from whom."""

from __future__ import annotations

import random

import pytest

from render_tasks.archives.piece_picker import (
    AGAIN_AFTER_S,
    COORDINATOR_AMONG_NODES,
    COORDINATOR_AT_ONCE,
    LOOK_AGAIN_S,
    LOOKS_AT_ONCE,
    NODE_AT_ONCE,
    NODES_KNOWN,
    SLOW_AFTER_S,
    Peer,
    PiecePicker,
    PieceRequest,
)
from sheepfold.sharing.pieces import all_of

OWN = "http://10.0.0.0:1"
A, B = "http://10.0.0.1:1", "http://10.0.0.2:1"


def picker_of(count: int, **nodes: int) -> PiecePicker:
    """``a`` and ``b``: what these nodes said they have, just now."""
    picker = PiecePicker(
        count, Peer(url="http://c:1", is_coordinator=True, pieces=all_of(count)), 0.0, OWN, random.Random(1)
    )
    urls = {"a": A, "b": B}
    picker.add_nodes([urls[name] for name in nodes], (), 0.0)
    for name, pieces in nodes.items():
        picker.set_pieces(picker.nodes[urls[name]], pieces, 0.0)
    return picker


def start_all(picker: PiecePicker, now: float = 0.0) -> list[PieceRequest]:
    """Starts requests until there is nothing more to ask for."""
    found = []
    while request := picker.next_request(now):
        picker.start(request)
        found.append(request)
    return found


def test_a_node_alone_asks_the_coordinator_for_as_much_as_keeps_its_cable_busy() -> None:
    requests = start_all(picker_of(10))
    assert len(requests) == COORDINATOR_AT_ONCE
    assert all(request.peer.is_coordinator for request in requests)
    assert len({request.piece for request in requests}) == COORDINATOR_AT_ONCE


def test_the_coordinator_is_asked_for_what_no_node_has_and_the_nodes_for_the_rest() -> None:
    requests = start_all(picker_of(6, a=0b000111))
    from_coordinator = [request.piece for request in requests if request.peer.is_coordinator]
    from_node = [request.piece for request in requests if not request.peer.is_coordinator]
    assert len(from_coordinator) == COORDINATOR_AMONG_NODES
    assert set(from_coordinator) <= {3, 4, 5}
    assert len(from_node) == NODE_AT_ONCE
    assert set(from_node) <= {0, 1, 2}


def test_nodes_that_know_each_other_begin_with_shares_of_their_own() -> None:
    """Given three nodes that know each other, when each fetches what nobody has, then no two fetch the same."""
    fetched: list[int | None] = []
    for own in (OWN, A, B):
        picker, others = picker_of(9), {OWN, A, B} - {own}
        picker.own_url = own
        picker.add_nodes(others, (), 0.0)
        for _ in range(3):
            request = next(request for request in start_all(picker) if request.peer.is_coordinator)
            fetched.append(request.piece)
            picker.finish(request)
            picker.mark_received(request.piece or 0, 0.0)
    assert sorted(piece for piece in fetched if piece is not None) == list(range(9))


def test_when_nodes_have_everything_the_coordinator_is_left_alone() -> None:
    assert all(request.peer.url == A for request in start_all(picker_of(10, a=all_of(10))))


def test_the_rarest_piece_comes_first() -> None:
    picker = picker_of(4, a=0b1111, b=0b0111)
    request = picker.next_request(0.0)
    assert request is not None
    assert (request.piece, request.peer.url) == (3, A)


def test_of_two_nodes_the_less_busy_one_is_asked() -> None:
    picker = picker_of(4, a=0b1111, b=0b1111)
    assert sorted(request.peer.url for request in start_all(picker)[:2]) == [A, B]


def test_a_node_of_which_nothing_is_known_is_looked_at_and_not_by_everybody() -> None:
    picker = picker_of(10)
    picker.add_nodes([A, B, "http://10.0.0.3:1"], (), 0.0)
    looks = [request for request in start_all(picker) if request.piece is None]
    assert len(looks) == LOOKS_AT_ONCE
    assert len({look.peer.url for look in looks}) == LOOKS_AT_ONCE


def test_a_node_that_has_nothing_we_want_is_looked_at_again_soon() -> None:
    picker = picker_of(4, a=0)
    assert not [request for request in start_all(picker, LOOK_AGAIN_S / 2) if request.piece is None]
    assert [request.peer.url for request in start_all(picker, LOOK_AGAIN_S) if request.piece is None] == [A]


def test_a_source_that_rests_is_not_asked() -> None:
    picker = picker_of(4, a=all_of(4))
    picker.back_off(picker.nodes[A], 5.0, 0.0)
    assert all(request.peer.is_coordinator for request in start_all(picker, 4.9))
    picker = picker_of(4, a=all_of(4))
    picker.back_off(picker.coordinator, 5.0, 0.0)
    picker.back_off(picker.nodes[A], 5.0, 0.0)
    assert start_all(picker, 4.9) == []


def test_what_a_busy_node_has_is_not_asked_of_the_coordinator() -> None:
    picker = picker_of(4, a=all_of(4))
    picker.back_off(picker.nodes[A], 0.05, 0.0)
    assert start_all(picker, 0.01) == [], "it is asked again in a moment"


def test_slow_nodes_are_passed_by_way_of_the_coordinator() -> None:
    picker = picker_of(10, a=all_of(10))
    assert not any(request.peer.is_coordinator for request in start_all(picker, SLOW_AFTER_S / 2))
    assert any(request.peer.is_coordinator for request in start_all(picker, SLOW_AFTER_S))


def test_a_piece_under_way_for_long_is_asked_of_somebody_else_once() -> None:
    picker = picker_of(1, a=0b1)
    (first,) = start_all(picker)
    assert start_all(picker, AGAIN_AFTER_S - 0.1) == []
    (second,) = start_all(picker, AGAIN_AFTER_S)
    assert (first.peer.url, second.peer.is_coordinator, second.piece) == (A, True, 0)
    assert start_all(picker, 10 * AGAIN_AFTER_S) == []


def test_a_request_that_failed_makes_its_piece_free_again() -> None:
    picker = picker_of(1)
    (request,) = start_all(picker)
    picker.finish(request)
    assert [again.piece for again in start_all(picker)] == [0]


def test_what_is_here_is_never_asked_for_again() -> None:
    picker = picker_of(3, a=all_of(3))
    picker.mark_received(1, 0.0)
    pieces = {request.piece for request in start_all(picker)}
    assert pieces == {0, 2}


def test_nodes_that_lied_a_while_ago_are_not_taken_back_and_few_are_kept_in_mind() -> None:
    picker = picker_of(3)
    picker.add_nodes([A, B], {B}, 0.0)
    assert set(picker.nodes) == {A}
    picker.set_pieces(picker.nodes[A], 1, 0.0)
    picker.add_nodes([f"http://10.0.1.{number}:1" for number in range(2 * NODES_KNOWN)], (), 0.0)
    assert len(picker.nodes) == NODES_KNOWN
    assert A in picker.nodes, "useful ones stay"


@pytest.mark.parametrize("seed", range(5))
def test_every_piece_comes_whatever_fails(seed: int) -> None:
    """Given sources that fail half of the time, when requests go on, each piece arrives."""
    chance, picker, now = random.Random(seed), picker_of(50, a=all_of(25), b=all_of(50)), 0.0
    while picker.missing:
        requests = start_all(picker, now)
        now += 0.1
        for request in requests:
            if request.piece is not None and chance.random() < 0.5:
                picker.mark_received(request.piece, now)
            elif chance.random() < 0.3:
                picker.back_off(request.peer, 1.0, now)
            picker.finish(request)
        assert now < 100
    assert start_all(picker, now) == []
