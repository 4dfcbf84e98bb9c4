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


def board_of(count: int, **nodes: int) -> PiecePicker:
    """``a`` and ``b``: what these nodes said they have, just now."""
    board = PiecePicker(
        count, Peer(url="http://c:1", is_coordinator=True, pieces=all_of(count)), 0.0, OWN, random.Random(1)
    )
    urls = {"a": A, "b": B}
    board.add_nodes([urls[name] for name in nodes], (), 0.0)
    for name, pieces in nodes.items():
        board.set_pieces(board.nodes[urls[name]], pieces, 0.0)
    return board


def taken(board: PiecePicker, now: float = 0.0) -> list[PieceRequest]:
    """Errands until there is nothing more to do."""
    found = []
    while errand := board.next_request(now):
        board.start(errand)
        found.append(errand)
    return found


def test_a_node_alone_asks_the_coordinator_for_as_much_as_keeps_its_cable_busy() -> None:
    errands = taken(board_of(10))
    assert len(errands) == COORDINATOR_AT_ONCE
    assert all(errand.peer.is_coordinator for errand in errands)
    assert len({errand.piece for errand in errands}) == COORDINATOR_AT_ONCE


def test_the_coordinator_is_asked_for_what_no_node_has_and_the_nodes_for_the_rest() -> None:
    errands = taken(board_of(6, a=0b000111))
    from_coordinator = [errand.piece for errand in errands if errand.peer.is_coordinator]
    from_node = [errand.piece for errand in errands if not errand.peer.is_coordinator]
    assert len(from_coordinator) == COORDINATOR_AMONG_NODES
    assert set(from_coordinator) <= {3, 4, 5}
    assert len(from_node) == NODE_AT_ONCE
    assert set(from_node) <= {0, 1, 2}


def test_nodes_that_know_each_other_begin_with_shares_of_their_own() -> None:
    """Given three nodes that know each other, when each fetches what nobody has, then no two fetch the same."""
    fetched: list[int | None] = []
    for own in (OWN, A, B):
        board, others = board_of(9), {OWN, A, B} - {own}
        board.own_url = own
        board.add_nodes(others, (), 0.0)
        for _ in range(3):
            errand = next(request for request in taken(board) if request.peer.is_coordinator)
            fetched.append(errand.piece)
            board.finish(errand)
            board.mark_received(errand.piece or 0, 0.0)
    assert sorted(piece for piece in fetched if piece is not None) == list(range(9))


def test_when_nodes_have_everything_the_coordinator_is_left_alone() -> None:
    assert all(errand.peer.url == A for errand in taken(board_of(10, a=all_of(10))))


def test_the_rarest_piece_comes_first() -> None:
    board = board_of(4, a=0b1111, b=0b0111)
    errand = board.next_request(0.0)
    assert errand is not None
    assert (errand.piece, errand.peer.url) == (3, A)


def test_of_two_nodes_the_less_busy_one_is_asked() -> None:
    board = board_of(4, a=0b1111, b=0b1111)
    assert sorted(errand.peer.url for errand in taken(board)[:2]) == [A, B]


def test_a_node_of_which_nothing_is_known_is_looked_at_and_not_by_everybody() -> None:
    board = board_of(10)
    board.add_nodes([A, B, "http://10.0.0.3:1"], (), 0.0)
    looks = [errand for errand in taken(board) if errand.piece is None]
    assert len(looks) == LOOKS_AT_ONCE
    assert len({look.peer.url for look in looks}) == LOOKS_AT_ONCE


def test_a_node_that_has_nothing_we_want_is_looked_at_again_soon() -> None:
    board = board_of(4, a=0)
    assert not [errand for errand in taken(board, LOOK_AGAIN_S / 2) if errand.piece is None]
    assert [errand.peer.url for errand in taken(board, LOOK_AGAIN_S) if errand.piece is None] == [A]


def test_a_source_that_rests_is_not_asked() -> None:
    board = board_of(4, a=all_of(4))
    board.back_off(board.nodes[A], 5.0, 0.0)
    assert all(errand.peer.is_coordinator for errand in taken(board, 4.9))
    board = board_of(4, a=all_of(4))
    board.back_off(board.coordinator, 5.0, 0.0)
    board.back_off(board.nodes[A], 5.0, 0.0)
    assert taken(board, 4.9) == []


def test_what_a_busy_node_has_is_not_asked_of_the_coordinator() -> None:
    board = board_of(4, a=all_of(4))
    board.back_off(board.nodes[A], 0.05, 0.0)
    assert taken(board, 0.01) == [], "it is asked again in a moment"


def test_slow_nodes_are_passed_by_way_of_the_coordinator() -> None:
    board = board_of(10, a=all_of(10))
    assert not any(errand.peer.is_coordinator for errand in taken(board, SLOW_AFTER_S / 2))
    assert any(errand.peer.is_coordinator for errand in taken(board, SLOW_AFTER_S))


def test_a_piece_under_way_for_long_is_asked_of_somebody_else_once() -> None:
    board = board_of(1, a=0b1)
    (first,) = taken(board)
    assert taken(board, AGAIN_AFTER_S - 0.1) == []
    (second,) = taken(board, AGAIN_AFTER_S)
    assert (first.peer.url, second.peer.is_coordinator, second.piece) == (A, True, 0)
    assert taken(board, 10 * AGAIN_AFTER_S) == []


def test_an_errand_that_failed_makes_its_piece_free_again() -> None:
    board = board_of(1)
    (errand,) = taken(board)
    board.finish(errand)
    assert [again.piece for again in taken(board)] == [0]


def test_what_is_here_is_never_asked_for_again() -> None:
    board = board_of(3, a=all_of(3))
    board.mark_received(1, 0.0)
    pieces = {errand.piece for errand in taken(board)}
    assert pieces == {0, 2}


def test_nodes_that_lied_a_while_ago_are_not_taken_back_and_few_are_kept_in_mind() -> None:
    board = board_of(3)
    board.add_nodes([A, B], {B}, 0.0)
    assert set(board.nodes) == {A}
    board.set_pieces(board.nodes[A], 1, 0.0)
    board.add_nodes([f"http://10.0.1.{number}:1" for number in range(2 * NODES_KNOWN)], (), 0.0)
    assert len(board.nodes) == NODES_KNOWN
    assert A in board.nodes, "useful ones stay"


@pytest.mark.parametrize("seed", range(5))
def test_every_piece_comes_whatever_fails(seed: int) -> None:
    """Given sources that fail half of the time, when errands go on, each piece arrives."""
    chance, board, now = random.Random(seed), board_of(50, a=all_of(25), b=all_of(50)), 0.0
    while board.missing:
        errands = taken(board, now)
        now += 0.1
        for errand in errands:
            if errand.piece is not None and chance.random() < 0.5:
                board.mark_received(errand.piece, now)
            elif chance.random() < 0.3:
                board.back_off(errand.peer, 1.0, now)
            board.finish(errand)
        assert now < 100
    assert taken(board, now) == []
