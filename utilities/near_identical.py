"""Whether two files show one picture: resized, encoded anew, cropped, framed, mirrored or recoloured; told by pixels.

A network does not tell that: for it two photographs of one cup may lie nearer to each other than a photograph and a
detail of it. Here one picture, the inner, is looked for in the other, the outer. First among small thumbnails, by
normalized cross-correlation (Lewis, Fast normalized cross-correlation, 1995) with parts of the outer of all places and
some scales; then in detail: the part is aligned by least squares (Lucas and Kanade, An iterative image registration
technique, 1981), and the two are compared block by block by the terms of SSIM for contrast and structure (Wang et al.,
Image quality assessment, 2004, eq. 9 and 10, with C3 = C2 / 2: their product).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from utilities.crops import Crop

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Side in pixels of thumbnails, and the most that a picture has for the comparison in detail.
THUMBNAIL, DETAIL = 32, 512
#: Correlation of thumbnails from which on a look at the details is worth its time; copies have 0.84 and more.
WORTH_A_LOOK = 0.8
#: Side of the squares in which thumbnails are compared.
_CELLS = 16
#: Parts of the outer are 1, 0.94, 0.94², … as wide and as high, down to 0.65.
_STEP, _SCALES = 0.94, 8
#: Standard deviation, in levels of 255, of what is no more than noise.
_NOISE = 2.0
#: Sides of the squares that are aligned, coarse and fine, and of the smaller picture that they are taken from.
_ALIGNED, _SMALL = (24, 64), 192
#: Steps of an alignment at most, the gain in correlation that another one is worth, and the smallest part's side.
_TIMES, _ENOUGH, _SMALLEST = 6, 1e-4, 0.5
#: In the comparison in detail: pixels of a side at least and at most; of what there is, a part, since encoding has
#: blurred the rest.
_FEWEST, _MOST, _SHARP = 32, 384, 2 / 3
#: Blocks of a side at least, and pixels of a block's side at most.
_BLOCKS, _BLOCK = 8, 16
#: SSIM's constant for contrast, (0.03 × 255)²: a variance below it is no structure.
_CONTRAST = 58.5
#: Structure from which on a block shows the same in both; the part of the blocks with structure that must, since a text
#: may lie on the others; and of how many at least.
_SAME, _SHARE, _FEWEST_BLOCKS = 0.75, 0.78, 4
#: What is written small differs in few pixels, perhaps in colour alone: the side of a block in which it is looked for,
#: the variance from which on it is more than what encoding does, and the structure below which it is something else.
_FINE, _STRONG, _OTHER = 8, 200.0, 0.6
#: The same side for colours, which files hold half as fine.
_FINE_COLOUR = 6
#: Correlation of the whole, and levels of 255 by which hues may differ.
_CORRELATED, _HUE = 0.85, 24.0
#: More than encoding and inexact alignment: levels of 255 by which a pixel in five differs, the part of a side that is
#: cut off, and by which a side is longer.
_RECOLOURED, _CUT, _RESIZED = 7.0, 0.015, 0.03


@dataclass(frozen=True)
class Picture:
    """The pixels of a file, squashed to a square."""

    #: (side, side, 3) uint8 RGB.
    pixels: NDArray[np.uint8]
    #: Width and height of the upright file in pixels.
    size: tuple[int, int]


@dataclass(frozen=True)
class Detail:
    """A picture as it is compared in detail: what is asked of it many times, made once."""

    #: As `Picture.size`.
    size: tuple[int, int]
    whole: Image.Image
    grey: Image.Image
    #: At most `_SMALL` pixels wide and high, grey and in colour.
    small: Image.Image
    colours: Image.Image

    @classmethod
    def of(cls, picture: Picture) -> Detail:
        """Of a picture with more pixels than a thumbnail has, up to `DETAIL`."""
        image = Image.fromarray(picture.pixels)
        side = min(image.width, _SMALL)  # Not by `reduce`, which would move what lies at the right and below.
        colours = image.resize((side, side), Image.Resampling.BILINEAR)
        return cls(picture.size, image, image.convert("L"), colours.convert("L"), colours)

    def mirrored(self) -> Detail:
        """Left and right exchanged."""
        return Detail(self.size, *map(ImageOps.mirror, (self.whole, self.grey, self.small, self.colours)))


@dataclass(frozen=True)
class Placement:
    """Where in one picture, the outer, another one, the inner, is shown."""

    #: Of the outer.
    part: Crop
    #: Whether left and right are exchanged.
    mirrored: bool
    #: Normalized cross-correlation of that part and the whole inner picture, over all colours.
    correlation: float


@dataclass(frozen=True)
class Likeness:
    """How two pictures that are one differ."""

    placement: Placement
    #: Whether something is cut off: the part is not the whole.
    is_part: bool
    #: Whether what both show has more pixels in one than in the other.
    is_resized: bool
    recoloured: bool
    #: Whether something covers a part, such as a text.
    altered: bool


def find_in(outer: Picture, inners: Sequence[Picture]) -> list[Placement]:
    """Where in a thumbnail each of several other thumbnails fits best, as it is or mirrored.

    Args:
        outer: of `THUMBNAIL` pixels.
        inners: n others.

    Returns:
        n placements; with a correlation below `WORTH_A_LOOK` they mean nothing.
    """
    found: list[Placement | None] = [None] * len(inners)
    by_shape: dict[int, list[int]] = {}
    for number, inner in enumerate(inners):
        by_shape.setdefault(_narrower(outer.size, inner.size), []).append(number)
    for narrower, numbers in by_shape.items():
        crops = _crops(narrower)
        parts = _parts(outer.pixels, narrower)  # (m, 3 * _CELLS²)
        wholes = _wholes(np.stack([inners[number].pixels for number in numbers]))  # (n, 2, 3 * _CELLS²)
        correlations = parts @ wholes.reshape(2 * len(numbers), -1).T
        correlations = correlations.reshape(len(parts), len(numbers), 2)
        for place, number in enumerate(numbers):
            part, mirrored = divmod(int(correlations[:, place].argmax()), 2)
            found[number] = Placement(crops[part], bool(mirrored), float(correlations[part, place, mirrored]))
    return [each for each in found if each is not None]


def compare(outer: Detail, inner: Detail, placement: Placement) -> Likeness | None:
    """Whether two pictures are one, seen in detail, and how they differ; None if they are not.

    Args:
        outer: a picture.
        inner: another one.
        placement: from `find_in`, of their thumbnails.
    """
    if placement.mirrored:
        inner = inner.mirrored()
    edges = _edges(placement.part)
    for side in _ALIGNED:
        edges = _align(outer.small, inner.small, edges, side)
    colours = (_pixels(outer.colours, edges, THUMBNAIL), _pixels(inner.colours, _WHOLE, THUMBNAIL))
    correlation = _correlation(*colours)
    if correlation < _CORRELATED or _change_of_hue(*colours) > _HUE:
        return None
    left, top, right, bottom = edges
    shown = (outer.size[0] * (right - left), outer.size[1] * (bottom - top))
    side = int(np.clip(min(*shown, *inner.size) * _SHARP, _FEWEST, _MOST)) // _BLOCKS * _BLOCKS
    count = max(_BLOCKS, side // _BLOCK)
    same = _structure(_pixels(outer.grey, edges, side), _pixels(inner.grey, _WHOLE, side), count, _CONTRAST) > _SAME
    if len(same) < _FEWEST_BLOCKS or same.mean() < _SHARE:
        return None
    side = int(np.clip(min(*shown, *inner.size), _FEWEST, DETAIL))
    fine = [_structure(_pixels(outer.grey, edges, side), _pixels(inner.grey, _WHOLE, side), side // _FINE, _STRONG)]
    side //= 2
    one, other = _pixels(outer.whole, edges, side), _pixels(inner.whole, _WHOLE, side)
    fine += [_structure(one[..., each], other[..., each], side // _FINE_COLOUR, _STRONG) for each in range(3)]
    return Likeness(
        Placement(Crop(left, top, right - left, bottom - top), placement.mirrored, correlation),
        is_part=min(right - left, bottom - top) < 1 - _CUT,
        is_resized=bool(max(abs(np.log(inner.size[axis] / shown[axis])) for axis in (0, 1)) > _RESIZED),
        recoloured=bool(np.percentile(np.abs(colours[0] - colours[1]).max(axis=2), 80) > _RECOLOURED),
        altered=not same.all() or any((each < _OTHER).any() for each in fine),
    )


#: Left, top, right and bottom, in fractions.
_Edges = tuple[float, float, float, float]
_WHOLE: _Edges = (0.0, 0.0, 1.0, 1.0)


def _edges(crop: Crop) -> _Edges:
    return crop.left, crop.top, min(1.0, crop.left + crop.width), min(1.0, crop.top + crop.height)


def _narrower(outer: tuple[int, int], inner: tuple[int, int]) -> int:
    """Steps by which the width of the inner is to be smaller than its height, as parts of the outer's."""
    proportion = inner[0] * outer[1] / (inner[1] * outer[0])
    return int(np.clip(round(np.log(proportion) / np.log(_STEP)), 1 - _SCALES, _SCALES - 1))


@functools.cache
def _averages(step: int) -> NDArray[np.float32]:
    """What makes of a side of a thumbnail its parts of one scale: ((step + 1) * _CELLS, THUMBNAIL) of areas' shares."""
    pixel = np.arange(THUMBNAIL)
    cell = np.arange(_CELLS + 1) / _CELLS
    starts = _starts(step)[:, None]
    ends = (starts + _STEP**step * cell) * THUMBNAIL  # (step + 1, _CELLS + 1)
    lower, upper = ends[:, :-1, None], ends[:, 1:, None]
    shares = np.clip(np.minimum(upper, pixel + 1) - np.maximum(lower, pixel), 0, 1) / (upper - lower)
    return np.asarray(shares.reshape(-1, THUMBNAIL), np.float32)


def _starts(step: int) -> NDArray[np.float64]:
    return np.linspace(0, 1 - _STEP**step, step + 1)


def _steps(narrower: int) -> list[tuple[int, int]]:
    """Scales of width and height of the parts that are looked at: those of the right proportions, and the whole."""
    steps = [(high + narrower, high) for high in range(_SCALES) if 0 <= high + narrower < _SCALES]
    return steps if narrower == 0 else [(0, 0), *steps]


@functools.cache
def _crops(narrower: int) -> list[Crop]:
    return [
        Crop(float(left), float(top), _STEP**wide, _STEP**high)
        for wide, high in _steps(narrower)
        for top in _starts(high)
        for left in _starts(wide)
    ]


def _parts(pixels: NDArray[np.uint8], narrower: int) -> NDArray[np.float32]:
    """The parts that `_crops` names, normalized: (m, 3 * _CELLS²)."""
    planes = pixels.transpose(2, 0, 1).astype(np.float32)  # (3, THUMBNAIL, THUMBNAIL)
    parts = []
    for wide, high in _steps(narrower):
        part = _averages(high) @ planes @ _averages(wide).T  # (3, (high + 1) * _CELLS, (wide + 1) * _CELLS)
        part = part.reshape(3, high + 1, _CELLS, wide + 1, _CELLS).transpose(1, 3, 0, 2, 4)
        parts.append(part.reshape(-1, 3 * _CELLS**2))
    return _normalized(np.concatenate(parts))


def _wholes(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Whole thumbnails, (n, THUMBNAIL, THUMBNAIL, 3), normalized, and each mirrored: (n, 2, 3 * _CELLS²)."""
    planes = pixels.transpose(0, 3, 1, 2).astype(np.float32)
    small = _averages(0) @ planes @ _averages(0).T  # (n, 3, _CELLS, _CELLS)
    both = np.stack([small, small[..., ::-1]], axis=1)
    return _normalized(both.reshape(len(pixels), 2, -1).astype(np.float32))


def _normalized(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of mean 0 and length 1; shorter where there is little more than noise."""
    values = values - values.mean(axis=-1, keepdims=True)
    squares = np.einsum("...i,...i->...", values, values)[..., None]
    return np.asarray(values / np.sqrt(squares + _NOISE**2 * values.shape[-1]), np.float32)


def _pixels(image: Image.Image, edges: _Edges, side: int) -> NDArray[np.float32]:
    """A part of an image, squashed to (side, side, 3), or of a grey one to (side, side)."""
    left, top, right, bottom = edges
    box = (left * image.width, top * image.height, right * image.width, bottom * image.height)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box), np.float32)


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    first, second = (_normalized(each.reshape(1, -1))[0] for each in (one, other))
    return float(first @ second)


def _align(outer: Image.Image, inner: Image.Image, edges: _Edges, side: int) -> _Edges:
    """Move the four edges of a part of a grey picture until it is most like the inner one.

    Each step solves inner ≈ gain · (part + Σ ∂part/∂edge · move) + offset, without what lies far off, such as a text.
    """
    wanted = _pixels(inner, _WHOLE, side)
    place = (np.arange(side, dtype=np.float32) + 0.5) / side
    across, along = place[None, :], place[:, None]
    best, highest = edges, -1.0
    for _ in range(_TIMES):
        part = _pixels(outer, edges, side)
        correlation = _correlation(part, wanted)
        if correlation > highest:
            best = edges
        if correlation < highest + _ENOUGH:
            break
        highest = correlation
        down, right = (np.asarray(each, np.float32) * side for each in np.gradient(part))
        right, down = right / (edges[2] - edges[0]), down / (edges[3] - edges[1])
        moves_of_edges = (right * (1 - across), down * (1 - along), right * across, down * along)
        design: NDArray[np.float32] = np.stack(
            [each.ravel() for each in (*moves_of_edges, part, np.ones_like(part))], axis=1
        )  # (side², 6)
        solved = _least_squares(design, wanted.ravel())
        residuals = np.abs(wanted.ravel() - design @ solved)
        near = residuals <= 2.5 * np.median(residuals) + _NOISE
        solved = _least_squares(design[near], wanted.ravel()[near])
        if solved[4] <= 0.05:  # It would have to be blurred away, or be the negative.
            break
        moves = np.clip(solved[:4] / solved[4], -1 / side, 1 / side)
        moved = np.clip(np.asarray(edges) + moves, 0, 1)
        if min(moved[2] - moved[0], moved[3] - moved[1]) < _SMALLEST:
            break
        edges = (float(moved[0]), float(moved[1]), float(moved[2]), float(moved[3]))
    return best


def _least_squares(design: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float64]:
    """The solution of the normal equations; where nothing tells it, 0."""
    squares = (design.T @ design).astype(np.float64)
    return np.asarray(np.linalg.lstsq(squares, (design.T @ wanted).astype(np.float64), rcond=1e-9)[0])


def _change_of_hue(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """By how many levels of 255 the colours of two pictures differ that are the same but for how strong they are.

    Four pixels in five differ by no more; the others may be covered by something.

    Args:
        one: (side, side, 3).
        other: (side, side, 3).
    """
    strong, pale = sorted((each - each.mean(axis=2, keepdims=True) for each in (one, other)), key=np.linalg.norm)[::-1]
    strength = max(0.0, float((strong * pale).sum()) / max(1.0, float((strong * strong).sum())))
    return float(np.percentile(np.linalg.norm(pale - strength * strong, axis=2), 80))


def _structure(
    one: NDArray[np.float32], other: NDArray[np.float32], count: int, contrast: float
) -> NDArray[np.float32]:
    """How alike two pictures of one channel are in each block in which either shows something, from -1 to 1.

    Args:
        one: (side, side).
        other: (side, side).
        count: of blocks along a side.
        contrast: the variance of a block that shows something.

    Returns:
        A number for each such block.
    """
    spread = np.maximum(1.0, [each.std() for each in (one, other)])
    # As much contrast in both as there is in the paler one.
    first, second = (
        _blocks(each * (spread.min() / own), count) for each, own in zip((one, other), spread, strict=True)
    )
    variances = [np.einsum("ij,ij->i", each, each) / each.shape[1] for each in (first, second)]
    covariance = np.einsum("ij,ij->i", first, second) / first.shape[1]
    structure = (2 * covariance + _CONTRAST) / (variances[0] + variances[1] + _CONTRAST)
    return np.asarray(structure[np.maximum(*variances) > contrast], np.float32)


def _blocks(grey: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """(side, side) -> (count², pixels of a block), each of mean 0."""
    side = len(grey) // count
    square = grey[: count * side, : count * side]
    blocks = square.reshape(count, side, count, side).transpose(0, 2, 1, 3).reshape(count**2, -1)
    return np.asarray(blocks - blocks.mean(axis=1, keepdims=True))
