"""Filters, which are Milvus's expressions: the fields that they name, since Milvus takes any name for a field."""

from __future__ import annotations

import re
from collections.abc import Sequence

from utilities.errors import InvalidArgument

#: Words of the expressions' grammar (Milvus's `Plan.g4`) that name no field, in any case. Functions need no place here:
#: a parenthesis follows them.
KEYWORDS = frozenset({"and", "or", "not", "in", "like", "is", "null", "exists", "true", "false", "iso", "interval"})
_TOKEN = re.compile(
    r"""
    \$meta \s* \[ \s* (?: "(?P<double> [^"\\]* )" | '(?P<single> [^'\\]* )' ) \s* \]  # a field, said at length
    | "(?: \\. | [^"\\] )*"? | '(?: \\. | [^'\\] )*'?        # a text, perhaps without its end, which Milvus refuses
    | \d [\w.]*                                              # a number
    | \$ \w*
    | (?P<name> [^\W\d] \w* ) (?! \w | \s* \( | \s* = (?!=) )  # no function, and no argument by its name
    | [^\W\d] \w*
    """,
    re.VERBOSE | re.DOTALL,
)


def named_fields(filter: str) -> list[str]:
    """The fields that an expression names, in their order, each as often as it is named.

    What is no expression is no error here: Milvus says better what is wrong with it.
    """
    names = (match["double"] or match["single"] or match["name"] for match in _TOKEN.finditer(filter))
    return [name for name in names if name and name.lower() not in KEYWORDS]


def check_filter(filter: str, fields: Sequence[str], collection: str) -> None:
    """Refuse an expression that names what is no field, which Milvus would take for one that no item has.

    Args:
        filter: a Milvus expression; empty for none.
        fields: all that the collection's items may have.
        collection: its name.

    Raises:
        InvalidArgument: such a name; the message says which there are.
    """
    unknown = next((name for name in named_fields(filter) if name not in fields), None)
    if unknown is not None:
        raise InvalidArgument(
            f"The filter {filter!r} cannot be applied to {collection!r}: there is no field {unknown!r}; there are "
            f"{', '.join(fields)}."
        )
