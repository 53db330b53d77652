"""Program files: a small, valid PE image with the version resource that Windows reads.

The layout follows Microsoft's PE/COFF specification and the VS_VERSIONINFO structure.
"""

import struct
from functools import lru_cache

__all__ = ["file_version", "program_file"]

_SECTION_START = 0x1000
_FILE_ALIGNMENT = 0x200
_SIGNATURE = 0xFEEF04BD
_KEY = "FileVersion\0".encode("utf-16-le")
_RT_VERSION = 16
_HEADERS = 0x200


@lru_cache(maxsize=64)
def program_file(name: str, version: str, size: int = 0) -> bytes:
    """The bytes of a DLL with only a file version; padded to `size` bytes."""
    resource = _resource_section(_version_info(name, version))
    image = _headers(len(resource)) + resource
    return image.ljust(max(size, len(image)), b"\0")


@lru_cache(maxsize=64)
def file_version(data: bytes) -> str | None:
    """The file version text of a PE image, or None if there is none."""
    at = data.find(_KEY)
    if not data.startswith(b"MZ") or at < 0:
        return None
    start = at + len(_KEY)
    start += -start % 4
    end = start
    while data[end : end + 2] not in {b"\0\0", b""}:
        end += 2
    return data[start:end].decode("utf-16-le", "replace") or None


def _block(key: str, value: bytes, *children: bytes, text: bool) -> bytes:
    """One node of the version resource: lengths, key, value, children, each on a 4-byte boundary."""
    head = key.encode("utf-16-le") + b"\0\0"
    head += b"\0" * (-(6 + len(head)) % 4)
    body = head + value
    for child in children:
        body += b"\0" * (-(6 + len(body)) % 4) + child
    value_length = len(value) // 2 if text else len(value)
    return struct.pack("<HHH", 6 + len(body), value_length, int(text)) + body


def _string(key: str, value: str) -> bytes:
    return _block(key, value.encode("utf-16-le") + b"\0\0", text=True)


def _version_info(name: str, version: str) -> bytes:
    numbers = [int(part) for part in version.split(".")][:4]
    high, low = (n << 16 | m for n, m in zip(numbers[::2], numbers[1::2], strict=True))
    fixed = struct.pack("<13I", _SIGNATURE, 0x10000, high, low, high, low, 0x3F, 0, 0x40004, 2, 0, 0, 0)
    strings = _block("040904b0", b"", _string("FileVersion", version), _string("OriginalFilename", name), text=True)
    translation = _block("Translation", struct.pack("<HH", 0x409, 1200), text=False)
    return _block(
        "VS_VERSION_INFO",
        fixed,
        _block("StringFileInfo", b"", strings, text=True),
        _block("VarFileInfo", b"", translation, text=True),
        text=False,
    )


def _resource_section(info: bytes) -> bytes:
    """The three-level directory of one resource: type, name, language, then the address of its bytes."""

    def directory(identifier: int, offset: int, *, leaf: bool) -> bytes:
        entry = struct.pack("<II", identifier, offset if leaf else offset | 0x80000000)
        return struct.pack("<IIHHHH", 0, 0, 0, 0, 0, 1) + entry

    level = 24
    tree = (
        directory(_RT_VERSION, level, leaf=False)
        + directory(1, 2 * level, leaf=False)
        + directory(0x409, 3 * level, leaf=True)
    )
    data_entry = struct.pack("<IIII", _SECTION_START + 3 * level + 16, len(info), 0, 0)
    section = tree + data_entry + info
    return section + b"\0" * (-len(section) % _FILE_ALIGNMENT)


def _headers(section_size: int) -> bytes:
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    coff = struct.pack("<HHIIIHH", 0x14C, 1, 0x4A000000, 0, 0, 224, 0x2102)
    standard = struct.pack("<HBBIIIIII", 0x10B, 8, 0, 0, section_size, 0, 0, 0, _SECTION_START)
    image_size = _SECTION_START + section_size + (-section_size % 0x1000)
    windows = struct.pack(
        "<IIIHHHHHHIIIIHHIIIIII",
        *(0x400000, 0x1000, _FILE_ALIGNMENT, 4, 0, 0, 0, 4, 0, 0),
        *(image_size, _HEADERS, 0, 3, 0x540, 0x100000, 0x1000, 0x100000, 0x1000, 0, 16),
    )
    directories = bytearray(16 * 8)
    struct.pack_into("<II", directories, 2 * 8, _SECTION_START, section_size)
    section = b".rsrc\0\0\0" + struct.pack(
        "<IIIIIIHHI", section_size, _SECTION_START, section_size, _HEADERS, 0, 0, 0, 0, 0x40000040
    )
    return (dos + b"PE\0\0" + coff + standard + windows + bytes(directories) + section).ljust(_HEADERS, b"\0")
