"""Ids are made from paths, in a way that another program could repeat."""

from __future__ import annotations

import hashlib
from pathlib import Path

from utilities.items import item_id, label_of


def test_item_id_is_the_first_63_bits_of_blake2b() -> None:
    digest = hashlib.blake2b(b"cup/image_0001.jpg\0", digest_size=8).digest()
    bits = "".join(f"{byte:08b}" for byte in digest)
    assert item_id("cup/image_0001.jpg") == int(bits[:63], 2)
    # A change of this number would orphan every collection that exists.
    assert item_id("cup/image_0001.jpg") == 6_632_682_826_244_209_363


def test_parts_and_paths_give_different_ids() -> None:
    assert len({item_id("a"), item_id("a", "1"), item_id("a1"), item_id("b"), item_id("é")}) == 5


def test_label_is_the_parent_folder_or_the_roots_name(tmp_path: Path) -> None:
    assert label_of(tmp_path, "animals/cat/1.jpg") == "cat"
    assert label_of(tmp_path / "cats", "1.jpg") == "cats"
