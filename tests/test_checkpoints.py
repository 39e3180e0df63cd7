"""Checkpoints: the last epoch to go on from, the best to keep, and whatever a killed process leaves between."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from utilities.backbones import import_keras
from utilities.fine_tuning import Checkpoint, Losses


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    """Three epochs, of which the second was the best; the only weight of each is its number."""
    model, losses = one_weight(), Losses()
    saved = Checkpoint(tmp_path / "checkpoint")
    for number, loss in enumerate((2.0, 1.0, 3.0), start=1):
        model.set_weights([np.full((1, 1), number, np.float32)])
        losses.training.append(loss)
        saved.save(model, losses)
    return Checkpoint(tmp_path / "checkpoint")


def one_weight() -> Any:
    """A compiled Keras model."""
    keras = import_keras()
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("adam", "mse")
    return model


def weight_of(model: Any) -> float:
    return float(model.get_weights()[0].item())


def test_the_last_epoch_is_gone_on_from_and_the_best_is_kept(checkpoint: Checkpoint, tmp_path: Path) -> None:
    model = one_weight()
    assert checkpoint.losses == Losses([2.0, 1.0, 3.0])
    checkpoint.restore(model)
    assert weight_of(model) == 3
    checkpoint.restore_best(model)
    assert weight_of(model) == 2
    assert [epoch.name for epoch in (tmp_path / "checkpoint").iterdir()] == ["0003"]


def test_an_epoch_that_was_not_written_to_its_end_is_passed_over(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(folder / "0003", folder / "0004")
    (folder / "0004" / "state.json").unlink()
    again = Checkpoint(folder)
    assert len(again.losses.training) == 3
    again.losses.training.append(0.5)
    again.save(one_weight(), again.losses)
    assert [epoch.name for epoch in folder.iterdir()] == ["0004"]
    (folder / "0004" / "state.json").write_text('{"training": [')
    assert Checkpoint(folder).losses == Losses()


def test_it_is_gone_when_it_has_served(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.remove()
    assert Checkpoint(tmp_path / "checkpoint").losses == Losses()
    assert not list((tmp_path / "checkpoint").iterdir())
