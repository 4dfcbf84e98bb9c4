"""Zips that want a password, made by other programs and by hostile hands."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from render_tasks.archives.extraction import Limits, declared_bytes, extract
from render_tasks.errors import ArchiveLocked, AttemptDropped, BadArchive
from tests.support.wire.locked_zips import locked_with_aes, locked_with_zipcrypto

MADE = Path(__file__).parent / "locked_zips"
PACKED_WITH_BZIP2 = MADE / "7z-aes256-bzip2.zip"
#: Of the zips that 7-Zip and Info-ZIP made.
PASSWORD = "open sesame"
WORDS = b"the same words again and again. " * 4000
#: The empty one comes first: any password whose check value is right opens it.
FILES = {"empty.txt": b"", "scene.blend": WORDS, "textures/wood.png": bytes(range(256)) * 5}
LOCKS = {
    "zipcrypto": lambda files, password: locked_with_zipcrypto(files, password),
    "zipcrypto, sizes behind": lambda files, password: locked_with_zipcrypto(files, password, sizes_behind=True),
    "AE-1": lambda files, password: locked_with_aes(files, password, version=1),
    "AE-2": lambda files, password: locked_with_aes(files, password, bits=128),
}


@pytest.fixture
def content_folder(tmp_path: Path) -> Path:
    content_folder = tmp_path / "deep" / "content"
    content_folder.mkdir(parents=True)
    return content_folder


@pytest.fixture(params=LOCKS.values(), ids=LOCKS.keys())
def lock_zip(request: pytest.FixtureRequest) -> object:
    return request.param


def unpack(content: bytes, content_folder: Path, password: str = PASSWORD, limits: Limits | None = None) -> None:
    extract(io.BytesIO(content), content_folder, limits or Limits(), password=password)


def found_in(content_folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(content_folder)): path.read_bytes() for path in content_folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("path", sorted({*MADE.glob("*.zip")} - {PACKED_WITH_BZIP2}), ids=lambda path: path.stem)
def test_what_other_programs_locked_is_opened(content_folder: Path, path: Path) -> None:
    unpack(path.read_bytes(), content_folder)
    found = found_in(content_folder)
    assert found["scene.blend"].startswith(b"BLENDER-v304RENDH" + WORDS[:100])
    assert len(found["textures/wood.png"]) == 300
    assert found["empty.txt"] == b""
    if path.stem == "infozip-zipcrypto":
        assert (content_folder / "textures" / "link.png").readlink() == Path("wood.png")


def test_a_locked_entry_that_is_packed_with_bzip2_is_refused(content_folder: Path) -> None:
    with pytest.raises(BadArchive, match="method that is not read: bzip2"):
        unpack(PACKED_WITH_BZIP2.read_bytes(), content_folder)
    assert not any(content_folder.iterdir())


def test_there_are_such_zips_of_every_kind() -> None:
    assert len(list(MADE.glob("*.zip"))) == 8


@pytest.mark.parametrize("bits", [128, 192, 256])
@pytest.mark.parametrize("version", [1, 2])
def test_every_strength_of_aes_is_opened(content_folder: Path, bits: int, version: int) -> None:
    unpack(locked_with_aes(FILES, "sésame", bits=bits, version=version), content_folder, "sésame")
    assert found_in(content_folder) == FILES


@pytest.mark.parametrize("sizes_behind", [False, True])
def test_both_manners_of_zipcrypto_are_opened(content_folder: Path, *, sizes_behind: bool) -> None:
    unpack(locked_with_zipcrypto(FILES, "sésame", sizes_behind=sizes_behind), content_folder, "sésame")
    assert found_in(content_folder) == FILES


def test_no_wrong_password_opens_anything_and_each_is_told_as_such(content_folder: Path, lock_zip: object) -> None:
    content = lock_zip(FILES, PASSWORD)  # type: ignore[operator]
    for number in range(600):  # one in 256 passes ZipCrypto's check value, one in 65,536 that of AES
        with pytest.raises(ArchiveLocked, match="locked and the password the server gave does not open it") as raised:
            unpack(content, content_folder, f"secret-{number}")
        assert "secret" not in repr(raised.value)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("files", [FILES, {"scene.blend": WORDS}], ids=["an empty file first", "one file"])
def test_a_wrong_password_that_passes_the_check_value_of_aes_is_told_as_such(
    content_folder: Path, files: dict[str, bytes], version: int
) -> None:
    content = bytearray(locked_with_aes(files, PASSWORD, bits=256, version=version))
    name_bytes, extra_bytes = struct.unpack_from("<HH", content, 26)
    salt_at = 30 + name_bytes + extra_bytes
    salt = bytes(content[salt_at : salt_at + 16])
    # Behind the keys of 32 bytes each, PBKDF2 gives the check value.
    content[salt_at + 16 : salt_at + 18] = hashlib.pbkdf2_hmac("sha1", b"wrong", salt, 1000, 66)[64:]
    with pytest.raises(ArchiveLocked, match="does not open it"):
        unpack(bytes(content), content_folder, "wrong")
    with pytest.raises(ArchiveLocked, match="does not open it"):
        unpack(bytes(content), content_folder, PASSWORD)


def test_without_a_password_a_locked_archive_is_told_as_such(content_folder: Path, lock_zip: object) -> None:
    with pytest.raises(ArchiveLocked, match="the server gave no password"):
        unpack(lock_zip(FILES, PASSWORD), content_folder, "")  # type: ignore[operator]


def test_a_password_does_no_harm_where_nothing_is_locked(content_folder: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"plain")
    unpack(buffer.getvalue(), content_folder)
    assert found_in(content_folder) == {"a": b"plain"}


def test_locked_and_unlocked_entries_side_by_side_are_both_opened(content_folder: Path) -> None:
    buffer = io.BytesIO(locked_with_zipcrypto({"locked": WORDS}, PASSWORD))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("open", WORDS)
    unpack(buffer.getvalue(), content_folder)
    assert found_in(content_folder) == {"locked": WORDS, "open": WORDS}


def test_an_entry_that_is_locked_in_the_table_alone_is_refused(content_folder: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", WORDS)
    raw = bytearray(buffer.getvalue())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ArchiveLocked):
        unpack(bytes(raw), content_folder)


def test_the_table_alone_says_what_an_entry_is(content_folder: Path, lock_zip: object) -> None:
    raw = bytearray(lock_zip({"inside": WORDS}, PASSWORD))  # type: ignore[operator]
    raw[raw.index(b"inside") : raw.index(b"inside") + 6] = b"../out"
    with pytest.raises(BadArchive, match="otherwise than the entry itself"):
        unpack(bytes(raw), content_folder)
    assert not list(content_folder.parent.glob("out"))


@pytest.mark.parametrize("name", ["../outside", "/outside", "C:/outside", "..\\outside"])
def test_names_that_lead_out_are_refused(content_folder: Path, lock_zip: object, name: str) -> None:
    with pytest.raises(BadArchive, match="leads out"):
        unpack(lock_zip({name: b"bad"}, PASSWORD), content_folder)  # type: ignore[operator]
    assert not found_in(content_folder.parent.parent)


@pytest.mark.parametrize("target", ["../outside", "/etc/passwd", "y" * 5000])
def test_a_locked_link_that_leads_out_is_refused(content_folder: Path, target: str) -> None:
    link = zipfile.ZipInfo("inside")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(BadArchive, match="link"):
        unpack(locked_with_zipcrypto({link: target.encode()}, PASSWORD), content_folder)
    assert not any(content_folder.iterdir())


def test_a_locked_bomb_is_stopped_at_the_limit(content_folder: Path, lock_zip: object) -> None:
    bomb = lock_zip({"zeros": bytes(5_000_000)}, PASSWORD)  # type: ignore[operator]
    with pytest.raises(BadArchive, match="claims to hold 5000000 bytes, more than 1000000"):
        unpack(bomb, content_folder, limits=Limits(bytes=1_000_000))
    assert not any(content_folder.iterdir())


@pytest.mark.parametrize("claimed", [10, 4_999_999, 5_000_001])
def test_sizes_that_lie_do_not_help(content_folder: Path, lock_zip: object, claimed: int) -> None:
    bomb = lock_zip({"zeros": bytes(5_000_000)}, PASSWORD)  # type: ignore[operator]
    with pytest.raises(BadArchive):
        unpack(bomb.replace(struct.pack("<L", 5_000_000), struct.pack("<L", claimed)), content_folder)


def test_an_archive_that_ends_in_the_middle_of_an_entry_is_refused(content_folder: Path, lock_zip: object) -> None:
    content = lock_zip(FILES, PASSWORD)  # type: ignore[operator]
    with pytest.raises(BadArchive):
        unpack(content[: len(content) // 2], content_folder)
    table = content.index(b"PK\x01\x02")
    entry = content[table:].replace(content[table + 20 : table + 24], struct.pack("<L", 10**6), 1)
    with pytest.raises(BadArchive):
        unpack(content[:table] + entry, content_folder)


def test_a_damaged_entry_is_not_kept_as_if_it_were_right(content_folder: Path, lock_zip: object) -> None:
    content = bytearray(lock_zip({"a": WORDS, "b": bytes(range(256)) * 40}, PASSWORD))  # type: ignore[operator]
    content[content.rindex(b"PK\x03\x04") + 200] ^= 1
    with pytest.raises(BadArchive) as raised:
        unpack(bytes(content), content_folder)
    assert not isinstance(raised.value, ArchiveLocked), "its first entry came out right: the password is"


@pytest.mark.parametrize(("offset", "value", "why"), [(4, 9, "locked entry"), (5, 14, "method")])
def test_aes_of_an_unknown_kind_is_refused(content_folder: Path, offset: int, value: int, why: str) -> None:
    content = bytearray(locked_with_aes({"a": b"x"}, PASSWORD))
    content[content.rindex(b"\x01\x99\x07\x00") + 4 + offset] = value
    with pytest.raises(BadArchive, match=why):
        unpack(bytes(content), content_folder)


def test_aes_that_says_nothing_of_itself_is_refused(content_folder: Path) -> None:
    content = locked_with_aes({"a": b"x"}, PASSWORD).replace(b"\x01\x99\x07\x00", b"\x02\x99\x07\x00")
    with pytest.raises(BadArchive, match="does not say how"):
        unpack(content, content_folder)


@pytest.mark.parametrize("flag", [0x20, 0x40, 0x2000])
def test_other_ways_of_locking_are_refused(content_folder: Path, flag: int) -> None:
    raw = bytearray(locked_with_zipcrypto({"a": b"x"}, PASSWORD))
    at = raw.index(b"PK\x01\x02") + 8
    raw[at : at + 2] = struct.pack("<H", struct.unpack_from("<H", raw, at)[0] | flag)
    with pytest.raises(BadArchive):
        unpack(bytes(raw), content_folder)


def test_a_stop_is_heard_between_entries(content_folder: Path) -> None:
    content = locked_with_aes({f"{number}": b"" for number in range(100)}, PASSWORD)
    with pytest.raises(AttemptDropped):
        extract(
            io.BytesIO(content), content_folder, Limits(), lambda: len(list(content_folder.iterdir())) > 3, PASSWORD
        )
    assert len(list(content_folder.iterdir())) == 4


def test_the_declared_size_of_a_locked_archive_is_the_sum_of_the_table(lock_zip: object) -> None:
    assert declared_bytes(io.BytesIO(lock_zip(FILES, PASSWORD)), Limits()) == len(WORDS) + 1280  # type: ignore[operator]
