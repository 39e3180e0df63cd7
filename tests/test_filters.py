"""Which fields a filter names, and what is said of those that there are not."""

from __future__ import annotations

import pytest

from utilities.errors import InvalidArgument
from utilities.filters import check_filter, named_fields


@pytest.mark.parametrize(
    ("filter", "fields"),
    [
        ("", []),
        ('label == "cup" and width > 200', ["label", "width"]),
        ("label == 'and width > 3' or path LIKE 'holidays/%'", ["label", "path"]),
        (r'label == "a \" b" && NOT (camera in ["x", "y"])', ["label", "camera"]),
        (r"label == 'it\'s' or x == 1", ["label", "x"]),
        ("camera is not null and exists taken", ["camera", "taken"]),
        ("price>=1e5 and 0x1F < n1 and 1.5e-3 < _n", ["price", "n1", "_n"]),
        ("80 < price <= 100", ["price"]),
        ("sale == true and other == FALSE", ["sale", "other"]),
        ("json_contains(tags, 3) or ARRAY_LENGTH (sizes) == 2", ["tags", "sizes"]),
        ('text_match(label, "a b", minimum_should_match=2)', ["label"]),
        ('$meta["price"] > 3 and $meta[ \'sku\' ] == "x"', ["price", "sku"]),
        ('tags["colour"] == "red"', ["tags"]),
        ("not(width == 3)and(height in[1,2])", ["width", "height"]),
        ('taken > ISO "2020-01-01T00:00:00Z" + INTERVAL "P1D"', ["taken"]),
        ("größe > 3", ["größe"]),
        ('label == "no end', ["label"]),
        ("width == 3 == = height", ["width", "height"]),
    ],
)
def test_fields_are_told_from_all_else(filter: str, fields: list[str]) -> None:
    assert named_fields(filter) == fields


def test_a_field_that_there_is_not_is_refused_by_its_name_with_those_that_there_are() -> None:
    known = ("id", "path", "width")
    for filter in ("", "width > 3", 'path == "widht"'):
        check_filter(filter, known, "photos")
    with pytest.raises(InvalidArgument) as caught:
        check_filter("width > 3 and widht < 5", known, "photos")
    assert str(caught.value) == (
        "The filter 'width > 3 and widht < 5' cannot be applied to 'photos': there is no field 'widht'; there are id, "
        "path, width."
    )
    with pytest.raises(InvalidArgument, match="no field 'WIDTH'"):  # Names, unlike words, have a case.
        check_filter("WIDTH > 3", known, "photos")
