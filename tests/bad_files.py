"""Files that are almost images: valid ones of six types, damaged in every way that a disk or a hand can."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")
Mutation: TypeAlias = Callable[[bytes, random.Random], bytes]


def draw_bad_files(directory: Path, count: int, seed: int = 0) -> int:
    """Write files, by turns of every type and with every damage; the same for the same seed.

    Returns:
        How many.
    """
    chance = random.Random(seed)
    directory.mkdir(parents=True)
    names = list(MUTATIONS)
    for number in range(count):
        kind = FORMATS[number % len(FORMATS)]
        name = names[number // len(FORMATS) % len(names)]
        content = MUTATIONS[name](_valid(kind, chance), chance)
        extension = chance.choice([other for other in FORMATS if other != kind]) if name == "wrong extension" else kind
        (directory / f"{number:05}_{name.replace(' ', '_')}.{extension.lower()}").write_bytes(content)
    return count


def _valid(kind: str, chance: random.Random) -> bytes:
    width, height = chance.randint(8, 90), chance.randint(8, 90)
    image = Image.frombytes("RGB", (width, height), chance.randbytes(3 * width * height)).convert(
        chance.choice(["L", "P", "RGB"]) if kind not in ("JPEG", "WEBP") else "RGB"
    )
    file = io.BytesIO()
    options = {"exif": _exif()} if kind in ("JPEG", "PNG", "WEBP", "TIFF") and chance.random() < 0.5 else {}
    image.save(file, kind, **options)
    return file.getvalue()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    return exif.tobytes()


def _truncated(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def _bits_flipped(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice([1, 8, 64])):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _header_lies(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(4):
        changed[chance.randrange(min(64, len(changed)))] = chance.randrange(256)
    return bytes(changed)


def _giant(content: bytes, chance: random.Random) -> bytes:
    """Dimensions of up to four gigapixels where the type keeps them, and a right checksum where it has one."""
    width, height = chance.choice([(65_535, 65_535), (40_000, 40_000), (65_535, 1), (9_000, 9_000)])
    changed = bytearray(content)
    if content.startswith(b"\x89PNG"):
        changed[16:24] = struct.pack(">II", width, height)
        changed[29:33] = struct.pack(">I", zlib.crc32(changed[12:29]))
    elif content.startswith(b"GIF"):
        changed[6:10] = struct.pack("<HH", width, height)
    elif content.startswith(b"BM"):
        changed[18:26] = struct.pack("<ii", width, height)
    elif content.startswith(b"\xff\xd8"):
        frame = next((at for at in range(len(content) - 1) if content[at : at + 2] in (b"\xff\xc0", b"\xff\xc2")), None)
        if frame is not None:
            changed[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    elif content[:2] in (b"II", b"MM"):
        order = "<" if content[:2] == b"II" else ">"
        directory = struct.unpack(f"{order}I", content[4:8])[0]
        for entry in range(struct.unpack(f"{order}H", content[directory : directory + 2])[0]):
            at = directory + 2 + 12 * entry
            tag = struct.unpack(f"{order}H", content[at : at + 2])[0]
            if tag in (256, 257):
                changed[at + 2 : at + 12] = struct.pack(f"{order}HII", 4, 1, width if tag == 256 else height)
    else:
        changed[26:30] = struct.pack("<HH", width & 0x3FFF, height & 0x3FFF)
    return bytes(changed)


def _zeros(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content))
    length = chance.randrange(len(content) - start) + 1
    return content[:start] + bytes(length) + content[start + length :]


def _nothing(content: bytes, chance: random.Random) -> bytes:
    return b""


def _unchanged(content: bytes, chance: random.Random) -> bytes:
    return content


def _shuffled(content: bytes, chance: random.Random) -> bytes:
    """Blocks of a file in another order, as a broken file system gives them back."""
    blocks = [content[at : at + 128] for at in range(0, len(content), 128)]
    head, rest = blocks[:1], blocks[1:]
    chance.shuffle(rest)
    return b"".join(head + rest)


MUTATIONS: dict[str, Mutation] = {
    "truncated": _truncated,
    "bits flipped": _bits_flipped,
    "header lies": _header_lies,
    "giant": _giant,
    "zero bytes": _zeros,
    "empty": _nothing,
    "wrong extension": _unchanged,
    "shuffled": _shuffled,
}
