"""Scenes that the server gives in chunks: each fetched once by its own request, ordered as they were offered."""

from __future__ import annotations

import threading

import pytest

from coordinator.archives.downloads import PARTS_AT_ONCE
from coordinator.leases.lease import LeaseState
from coordinator.scheduling.matching import Requirements
from coordinator.upstream.errors import ArchiveGone
from sheepfold.contract.api_messages import FailureKind
from sheepfold.contract.codec import from_json, to_json
from sheepfold.contract.orders import ArchiveRef, scene_key
from sheepfold.protocol.messages import ArchiveRequest, Chunk
from tests.support.coordinator.builders import ClaimRecord
from tests.support.coordinator.dispatcher_harness import DispatcherHarness
from tests.support.coordinator.fakes import KEY, RENDERER, SCENE, md5_of, node

PARTS = tuple(b"part %d of the scene" % number for number in range(5))
#: As no path may look.
IDS = ("../../../etc/passwd", "a/b", "..\\x", "?chunk=7&x=", "5")
CHUNKS = tuple(Chunk(id=id_, md5=md5_of(part)) for id_, part in zip(IDS, PARTS, strict=True))
KEY_OF_SCENE = scene_key([md5_of(part) for part in PARTS])


@pytest.fixture
def harness(harness: DispatcherHarness) -> DispatcherHarness:
    """Its server has the scene's chunks, too."""
    harness.session.archives |= {id_: [part] for id_, part in zip(IDS, PARTS, strict=True)}
    return harness


def in_chunks(chunks: tuple[Chunk, ...] = CHUNKS, **changes: object) -> dict[str, object]:
    return {"archive_md5": "", "chunks": chunks, **changes}


def chunk_requests(harness: DispatcherHarness) -> list[str | None]:
    return [request.chunk for request in harness.session.downloads if request.type == "chunk"]


def test_every_chunk_is_fetched_once_and_the_order_names_them_in_order(harness: DispatcherHarness) -> None:
    harness.present = {"n1": node(slots=3)}
    for number in range(3):
        harness.grant(f"{number:04}", **in_chunks())
    harness.place_until(lambda: len(harness.sent) == 3)
    assert sorted(harness.session.downloads, key=lambda request: request.chunk or "") == [
        ArchiveRequest(type="binary", job="77"),
        *(ArchiveRequest(type="chunk", chunk=id_) for id_ in sorted(IDS)),
    ]
    refs = tuple(ArchiveRef(md5=md5_of(part), size=len(part)) for part in PARTS)
    assert {order.scene_archives for _, order, _ in harness.sent} == {refs}
    assert {path.name for path in harness.folder.iterdir()} == {md5_of(part) for part in (*PARTS, RENDERER)}


def test_a_chunk_that_two_scenes_share_is_fetched_once(harness: DispatcherHarness) -> None:
    harness.present = {"n1": node(slots=2)}
    harness.grant("0001", **in_chunks(CHUNKS[:3]))
    harness.place_until(lambda: len(harness.sent) == 1)
    renamed = Chunk(id="4", md5=CHUNKS[0].md5)
    harness.grant("0002", **in_chunks((renamed, *CHUNKS[3:])))
    harness.place_until(lambda: len(harness.sent) == 2)
    assert sorted(chunk_requests(harness), key=str) == sorted(IDS)


def test_a_single_chunk_is_asked_for_by_its_id_and_is_an_archive_of_its_own(harness: DispatcherHarness) -> None:
    harness.grant(**in_chunks((CHUNKS[0],)))
    harness.place_until(lambda: len(harness.sent) == 1)
    assert chunk_requests(harness) == [IDS[0]]
    assert [ref.md5 for ref in harness.sent[0][1].scene_archives] == [CHUNKS[0].md5]


def test_a_scene_of_many_chunks_leaves_room_for_other_jobs_archives(harness: DispatcherHarness) -> None:
    harness.present = {"n1": node(slots=2)}
    go_on, under_way = threading.Event(), []

    def slowly(request: ArchiveRequest, _cancelled: object) -> None:
        if request.type == "chunk":
            under_way.append(request.chunk)
            assert go_on.wait(10)

    harness.session.during_download = slowly
    harness.grant("0001", **in_chunks())
    harness.place()
    harness.grant("0002", archive_md5=md5_of(SCENE))
    harness.place_until(lambda: [order.frame for _, order, _ in harness.sent] == ["0002"])
    assert len(under_way) == PARTS_AT_ONCE
    go_on.set()
    harness.place_until(lambda: len(harness.sent) == 2)


def test_a_chunk_the_server_no_longer_has_gives_the_frame_up(
    harness: DispatcherHarness, claim_record: ClaimRecord
) -> None:
    harness.session.archives[IDS[3]] = [ArchiveGone("the server no longer has the archive")]
    lease = harness.grant(**in_chunks())
    harness.place_until(lambda: harness.state(lease) is LeaseState.FAILED)
    assert [failure.kind for _, failure in claim_record.gave_up] == [FailureKind.NO_ARCHIVE]
    assert not harness.sent


@pytest.mark.parametrize("md5", ["../../etc/passwd", "x" * 32])
def test_a_chunk_whose_md5_would_become_a_path_gives_the_frame_up(harness: DispatcherHarness, md5: str) -> None:
    lease = harness.grant(**in_chunks((CHUNKS[0], Chunk(id="2", md5=md5))))
    harness.place_until(lambda: harness.state(lease) is LeaseState.FAILED)


def test_every_part_is_needed_as_long_as_the_lease_lives(harness: DispatcherHarness) -> None:
    harness.grant(**in_chunks())
    harness.place_until(lambda: len(harness.sent) == 1)
    assert harness.tally.needed_archives() == {md5_of(part) for part in (*PARTS, RENDERER)}
    for part in PARTS:
        harness.store.delete(md5_of(part))  # the server says so
        assert harness.store.path_of(md5_of(part)) is not None
    harness.ledger.apply(harness.sent[0][1].lease_id, "cancel")  # type: ignore[arg-type]
    harness.store.tidy()
    assert not {md5_of(part) for part in PARTS} & set(harness.store.held())


def test_the_pc_that_holds_the_scene_is_chosen_by_its_key(harness: DispatcherHarness) -> None:
    parts = tuple(md5_of(part) for part in PARTS)
    harness.present = {"a": node("a", shared=parts), "b": node("b", archives=(KEY_OF_SCENE,)), "c": node("c")}
    lease = harness.grant(**in_chunks())
    harness.place_until(lambda: len(harness.sent) == 1)
    assert harness.ledger.get(lease.id).node_id == "b"
    need = Requirements(use_gpu=False, scene_key=KEY_OF_SCENE, renderer_md5=md5_of(RENDERER))
    harness.node_index.upsert(node("c", warm=(KEY_OF_SCENE,)), KEY)
    assert harness.node_index.choose(need, KEY) == "c"


def test_the_pc_that_works_on_the_scene_gets_its_next_frame(harness: DispatcherHarness) -> None:
    harness.present = {"a": node("a", slots=2), "b": node("b", slots=2)}
    leases = []
    for number in range(2):
        leases.append(harness.grant(f"{number:04}", **in_chunks()))
        harness.place_until(lambda number=number: len(harness.sent) == number + 1)
    assert len({harness.ledger.get(lease.id).node_id for lease in leases}) == 1


def test_scenes_that_share_some_chunks_are_ordered_each_with_its_own(harness: DispatcherHarness) -> None:
    harness.present = {"n1": node(slots=3)}
    scenes = {"0000": CHUNKS, "0001": CHUNKS[:3], "0002": (*CHUNKS[:2], CHUNKS[4])}
    harness.grant("0000", **in_chunks())
    harness.place_until(lambda: len(harness.sent) == 1)
    for number in ("0001", "0002"):
        harness.grant(number, **in_chunks(scenes[number]))
    assert harness.place() == 2, "everything is here"
    ordered = {order.frame: tuple(ref.md5 for ref in order.scene_archives) for _, order, _ in harness.sent}
    assert ordered == {number: tuple(chunk.md5 for chunk in chunks) for number, chunks in scenes.items()}


def test_another_order_of_the_same_chunks_is_another_scene(harness: DispatcherHarness) -> None:
    there, back = harness.grant("0001", **in_chunks()), harness.grant("0002", **in_chunks(CHUNKS[::-1]))
    assert (there.scene_key, back.scene_key) == (KEY_OF_SCENE, scene_key([md5_of(part) for part in PARTS[::-1]]))
    assert there.scene_key != back.scene_key


def test_the_password_travels_with_the_start_and_with_nothing_else(harness: DispatcherHarness) -> None:
    harness.grant(**in_chunks(password="opens the scene"))
    harness.place_until(lambda: len(harness.sent) == 1)
    signed, order, _ = harness.sent[0]
    assert order.scene_locked
    assert "opens the scene" not in signed.text + to_json(signed) + repr(order)
    answer = harness.claims.start(order.lease_id, 1, "n1", "word")
    assert answer.scene_password == "opens the scene"
    assert "opens" not in repr(answer)
    assert harness.claims.start(order.lease_id, 1, "n1", "word") == answer, "the answer was lost and is asked for again"
    assert from_json(type(answer), to_json(answer)) == answer


@pytest.mark.parametrize("password", [None, ""])
def test_an_order_for_a_scene_that_is_not_locked_says_so(harness: DispatcherHarness, password: str | None) -> None:
    harness.grant(password=password)
    harness.place_until(lambda: len(harness.sent) == 1)
    assert not harness.sent[0][1].scene_locked
    assert harness.claims.start(harness.sent[0][1].lease_id, 1, "n1", "word").scene_password == ""
