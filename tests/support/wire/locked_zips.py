"""Makes zips that want a password."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping

import pyzipper


def locked_with_aes(files: Mapping[str, bytes], password: str, *, bits: int = 256, version: int = 2) -> bytes:
    """Every file locked as WinZip does it: AE-1 keeps the CRC, AE-2 does not."""
    buffer = io.BytesIO()
    settings = {"compression": pyzipper.ZIP_DEFLATED, "encryption": pyzipper.WZ_AES}
    with pyzipper.AESZipFile(buffer, "w", **settings) as archive:
        archive.setpassword(password.encode())
        archive.setencryption(pyzipper.WZ_AES, nbits=bits, force_wz_aes_version=version)
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def locked_with_zipcrypto(
    files: Mapping[str | zipfile.ZipInfo, bytes], password: str, *, sizes_behind: bool = False
) -> bytes:
    """Every file locked as PKZIP did it, 1 MB in a second; ``sizes_behind``: as a program that writes into a pipe."""
    plain, out, places = io.BytesIO(), io.BytesIO(), []
    with zipfile.ZipFile(plain, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content, zipfile.ZIP_DEFLATED if content else zipfile.ZIP_STORED)
        for entry in archive.infolist():
            places.append(out.tell())
            _write_locked(out, plain, entry, password, sizes_behind=sizes_behind)
        directory = out.tell()
        for entry, place in zip(archive.infolist(), places, strict=True):
            _write_in_table(out, entry, place)
    size = out.tell() - directory
    out.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, len(places), len(places), size, directory, 0))
    return out.getvalue()


def _write_locked(
    out: io.BytesIO, plain: io.BytesIO, entry: zipfile.ZipInfo, password: str, *, sizes_behind: bool
) -> None:
    name = entry.filename.encode()
    plain.seek(entry.header_offset + 30 + len(name))
    check = _time_of(entry) >> 8 if sizes_behind else entry.CRC >> 24
    locked = _encrypt(bytes(11) + bytes([check]) + plain.read(entry.compress_size), password)
    entry.flag_bits, entry.compress_size = entry.flag_bits | (9 if sizes_behind else 1), len(locked)
    sizes = (entry.CRC, entry.compress_size, entry.file_size)
    out.write(b"PK\x03\x04" + _described(entry, (0, 0, 0) if sizes_behind else sizes) + struct.pack("<H", 0))
    out.write(name + locked)
    if sizes_behind:
        out.write(struct.pack("<4s3L", b"PK\x07\x08", *sizes))


def _write_in_table(out: io.BytesIO, entry: zipfile.ZipInfo, place: int) -> None:
    described = _described(entry, (entry.CRC, entry.compress_size, entry.file_size))
    out.write(b"PK\x01\x02" + struct.pack("<BB", 20, entry.create_system) + described)
    out.write(struct.pack("<4H2L", 0, 0, 0, 0, entry.external_attr, place) + entry.filename.encode())


def _described(entry: zipfile.ZipInfo, sizes: tuple[int, int, int]) -> bytes:
    method, time = entry.compress_type, _time_of(entry)
    return struct.pack("<5H3LH", 20, entry.flag_bits, method, time, 0x21, *sizes, len(entry.filename.encode()))


def _time_of(entry: zipfile.ZipInfo) -> int:
    return entry.date_time[3] << 11 | entry.date_time[4] << 5 | entry.date_time[5] // 2


def _encrypt(data: bytes, password: str) -> bytes:
    first, second, third = 0x12345678, 0x23456789, 0x34567890

    def update(byte: int) -> None:
        nonlocal first, second, third
        first = zlib.crc32(bytes([byte]), first ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
        second = ((second + (first & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
        third = zlib.crc32(bytes([second >> 24]), third ^ 0xFFFFFFFF) ^ 0xFFFFFFFF

    for byte in password.encode():
        update(byte)
    locked = bytearray()
    for byte in data:
        mask = third | 2
        locked.append(byte ^ (mask * (mask ^ 1) >> 8 & 0xFF))
        update(byte)
    return bytes(locked)
