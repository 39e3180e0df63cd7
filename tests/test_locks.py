"""One writer at a time, and none that is dead."""

from __future__ import annotations

import subprocess
import sys

import pytest

from utilities.errors import CollectionBusy
from utilities.locks import only_writer
from utilities.settings import Settings

HOLD = """
import sys, time
from pathlib import Path
from utilities.locks import only_writer
from utilities.settings import Settings
with only_writer(Settings(home=Path(sys.argv[1])), "cats"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_writer_is_refused_until_the_first_dies(settings: Settings) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, settings.home], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with (
            pytest.raises(CollectionBusy, match=r"'cats'.*wait until it ends .*cats\.lock"),
            only_writer(settings, "cats"),
        ):
            pass
        with only_writer(settings, "dogs"):
            pass
        first.kill()
    with only_writer(settings, "cats"):
        pass


def test_two_writers_in_one_process(settings: Settings) -> None:
    with only_writer(settings, "cats"), pytest.raises(CollectionBusy), only_writer(settings, "cats"):
        pass
    with only_writer(settings, "cats"):
        pass
