"""What may be chosen of how a network embeds, beside its weights."""

from __future__ import annotations

from dataclasses import dataclass

from utilities.errors import InvalidArgument
from utilities.views import canonical_views, count_views

#: How the last feature maps become one vector.
POOLINGS = ("average", "gem")


@dataclass(frozen=True)
class Variant:
    """One choice; the default is the plain network. A part of `Fingerprint`: vectors of two variants never meet."""

    #: One of `POOLINGS`, in any case.
    pooling: str = "average"
    #: Ways to see a picture, one or several of `utilities.views.VIEWS`, separated by commas. Of several the embedding
    #: is the mean of their embeddings, made unit length.
    views: str = "squash"
    #: Whether vectors keep the length that the network gives them, instead of length 1.
    keep_length: bool = False

    def __post_init__(self) -> None:
        """Refuse what there is not.

        Raises:
            InvalidArgument: a pooling or a view that is not known, or the length of a mean kept.
        """
        object.__setattr__(self, "pooling", self.pooling.lower())
        if self.pooling not in POOLINGS:
            raise InvalidArgument(f"There is no pooling {self.pooling!r}; choose one of {', '.join(POOLINGS)}.")
        object.__setattr__(self, "views", canonical_views(self.views))
        if self.keep_length and count_views(self.views) > 1:
            raise InvalidArgument(
                f"--keep-length: the mean of the views {self.views} has no length of its own; name one view."
            )

    def __str__(self) -> str:
        """What is not as by default, such as `gem pooling, views squash,mirror`; empty for the default."""
        said = (
            f"{self.pooling} pooling" if self.pooling != "average" else "",
            f"views {self.views}" if self.views != "squash" else "",
            "length kept" if self.keep_length else "",
        )
        return ", ".join(each for each in said if each)


PLAIN = Variant()
