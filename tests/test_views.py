"""Ways to show a picture to a network, and how they are named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.conftest import MeanColour
from utilities.errors import InvalidArgument
from utilities.fingerprint import Fingerprint
from utilities.variants import Variant
from utilities.views import Sight, count_views

RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)


def stripes(width: int, height: int) -> Image.Image:
    """From left to right a quarter red, half green, a quarter blue."""
    image = Image.new("RGB", (width, height), GREEN)
    image.paste(RED, (0, 0, width // 4, height))
    image.paste(BLUE, (width - width // 4, 0, width, height))
    return image


def sight(views: str, side: int = 32) -> Sight:
    return Sight(replace(MeanColour.fingerprint, views=views), side)


def test_what_each_view_shows() -> None:
    image = stripes(64, 32)
    squash, crop, pad, zoom = (sight(view).see(image) for view in ("squash", "crop", "pad", "zoom"))
    for pixels in (squash, crop, pad, zoom):
        assert (pixels.shape, pixels.dtype.name) == ((32, 32, 3), "uint8")
    thirds = np.array([RED, GREEN, BLUE])
    np.testing.assert_array_equal(squash[16, [3, 16, 28]], thirds)
    assert (crop == GREEN).all()
    np.testing.assert_array_equal(pad[[7, 8, 23, 24], 16], [GREY, GREEN, GREEN, GREY])
    np.testing.assert_array_equal(pad[16, [3, 16, 28]], thirds)
    # Of 64 columns it shows the middle 56, of which 12 are red: 6.9 of 32.
    np.testing.assert_array_equal(zoom[16, [5, 16, 26]], thirds)
    np.testing.assert_array_equal(zoom[16, [8, 23]], [GREEN, GREEN])
    upright = sight("crop").see(image.transpose(Image.Transpose.ROTATE_90))
    assert (upright == GREEN).all()


def test_several_views_are_shown_in_their_order_and_then_their_mirror_images() -> None:
    image = stripes(64, 32).transform((64, 32), Image.Transform.AFFINE, (1, 0, 8, 0, 1, 0))  # not symmetrical
    shown = sight("squash,crop,mirror").see(image)
    assert shown.shape == sight("squash,crop,mirror").input_shape == (4, 32, 32, 3)
    np.testing.assert_array_equal(shown[0], sight("squash").see(image))
    np.testing.assert_array_equal(shown[1], sight("crop").see(image))
    np.testing.assert_array_equal(shown[2:], shown[:2, :, ::-1])
    assert (shown[0] != shown[2]).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (3000, 1), (2, 3)])
def test_the_smallest_and_longest_pictures_are_seen_in_every_view(size: tuple[int, int]) -> None:
    shown = sight("squash,crop,pad,zoom,mirror").see(Image.new("RGB", size, RED))
    assert shown.shape == (8, 32, 32, 3)
    assert (shown == RED).all(axis=-1).any(axis=(1, 2)).all()


def test_a_zoom_needs_a_larger_picture() -> None:
    assert sight("squash,zoom", 224).input_size == 256
    assert sight("squash,pad", 224).input_size == 224


def test_views_have_one_name_whatever_their_order() -> None:
    assert Variant(views=" mirror, CROP,squash,crop").views == "squash,crop,mirror"
    assert Variant(views="squash") == Variant()
    assert [count_views(views) for views in ("pad", "pad,zoom", "pad,zoom,mirror")] == [1, 2, 4]
    assert str(Variant("gem", "mirror,squash")) == "gem pooling, views squash,mirror"
    assert str(Variant(views="crop", keep_length=True)) == "views crop, length kept"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"pooling": "max"}, "There is no pooling 'max'; choose one of average, gem"),
        ({"views": "flip"}, "There is no view 'flip'; choose one or several of squash, crop, pad, zoom, mirror"),
        ({"views": "crop,"}, "There is no view ''"),
        ({"views": "mirror"}, "adds the mirror image of each other view; name one, as in squash,mirror"),
        ({"views": "crop,mirror", "keep_length": True}, "the views crop,mirror has no length of its own"),
    ],
)
def test_variants_that_there_are_not(arguments: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        Variant(**arguments)  # type: ignore[arg-type]


def test_names_of_networks_that_were_there_before_are_as_they_were() -> None:
    plain = Fingerprint("resnet50", "0a" * 16, "squashed to 224x224 bilinearly, caffe", 2048)
    assert plain.name == "resnet50-2048-9cd9adda2cb76a2e"
    short = Fingerprint("mobilenetv2", "0a" * 16, "squashed to 224x224 bilinearly, tf", 100, "1b" * 16, "2c" * 16)
    assert short.name == "mobilenetv2-100-72acc7247893a582"
    unstated = Fingerprint("mobilenetv2", "", "squashed to 224x224 bilinearly, tf", 1280)
    assert unstated.name == "mobilenetv2-1280-958d8dbce2eb3402"
    # What an earlier version wrote into a collection's properties says nothing of variants.
    assert Fingerprint.from_json('{"backbone": "a", "weights_digest": "", "preprocessing": "", "dimension": 1}').views


def test_another_variant_is_another_embedder() -> None:
    plain = MeanColour.fingerprint
    others = [replace(plain, pooling="gem"), replace(plain, views="crop"), replace(plain, keep_length=True)]
    assert len({each.name for each in [plain, *others]}) == 4
    for other in others:
        assert not plain.matches(other)
        assert not replace(plain, weights_digest="").matches(other)
        assert Fingerprint.from_json(other.to_json()) == other
    assert str(others[0]) == "mean_colour, 3 dimensions, weights 00000000, gem pooling"
