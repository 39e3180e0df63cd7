"""Flags over environment over defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from utilities.errors import InvalidArgument
from utilities.settings import Settings


def test_flags_beat_the_environment_beats_defaults() -> None:
    environment = {"LOOKALIKE_HOME": "/env", "MILVUS_URI": "http://env:19530", "MILVUS_TOKEN": ""}
    settings = Settings.load(environment, home=Path("/flag"), milvus_uri=None)
    assert settings.home == Path("/flag")
    assert settings.milvus_uri == settings.database_uri == "http://env:19530"
    assert settings.milvus_token is None
    assert settings.max_image_pixels == Settings().max_image_pixels


def test_numbers_are_read() -> None:
    settings = Settings.load({"LOOKALIKE_MAX_IMAGE_PIXELS": "1000", "LOOKALIKE_DOWNLOAD_TIMEOUT": "2.5"})
    assert settings.max_image_pixels == 1000
    assert settings.download_timeout_seconds == 2.5


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("TRUE", True), ("1", True), ("no", False), ("0", False)])
def test_yes_and_no_are_read(text: str, value: bool) -> None:
    assert Settings.load({"LOOKALIKE_ALLOW_PRIVATE_URLS": text}).allow_private_urls is value


def test_neither_yes_nor_no() -> None:
    with pytest.raises(InvalidArgument, match="LOOKALIKE_ALLOW_PRIVATE_URLS is 'maybe'; set it to yes or no"):
        Settings.load({"LOOKALIKE_ALLOW_PRIVATE_URLS": "maybe"})


@pytest.mark.parametrize("text", ["many", "0", "-3"])
def test_a_bad_number_is_refused_by_its_variables_name(text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"LOOKALIKE_MAX_IMAGE_PIXELS is '{text}'"):
        Settings.load({"LOOKALIKE_MAX_IMAGE_PIXELS": text})


def test_places() -> None:
    settings = Settings(home=Path("h"))
    assert settings.database_uri == str(Path("h/milvus.db"))
    assert settings.id_map_path("cats") == Path("h/cats.csv")
    assert settings.failures_path("cats") == Path("h/cats.failures.csv")
