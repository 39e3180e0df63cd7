"""The verbs of `lookalike` that search: parsed here, run by their pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from pipelines.cli_measure import AsJson
from pipelines.printing import print_json, print_result, result_as_json
from utilities.download import is_url
from utilities.errors import InvalidArgument
from utilities.settings import ENVIRONMENT_VARIABLES, Settings

app = typer.Typer()

AllowPrivateUrls = Annotated[
    bool, typer.Option("--allow-private-urls", help="Let URLs lead to this machine and its private network.")
]


@app.command()
def query(
    context: typer.Context,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help="Pictures to search with: files or URLs; or clips.")
    ],
    collection: Annotated[
        Optional[str], typer.Option(help="Where to search; may be left out if there is only one.")
    ] = None,
    unlike: Annotated[
        Optional[list[str]],
        typer.Option(
            "--not", metavar="IMAGE", help="A picture that the neighbours are not to be like; may be repeated."
        ),
    ] = None,
    together: Annotated[
        str,
        typer.Option(
            metavar="vector|ranks",
            help="All pictures are one query: by a combined vector, or by fused rankings. [default: each by itself; "
            "with --not, vector]",
        ),
    ] = "",
    top_k: Annotated[int, typer.Option(help="How many neighbours, up to 16384.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="Pass over so many of the nearest, for the next page.")] = 0,
    filter: Annotated[str, typer.Option(help="Only these: a Milvus expression such as 'label == \"cup\"'.")] = "",
    min_similarity: Annotated[
        Optional[float],
        typer.Option(help="Only what is at least so similar, with --expand to the moved query; not where l2 compares."),
    ] = None,
    group_by: Annotated[
        str, typer.Option(metavar="FIELD", help="Only the nearest of each folder, label, or other field.")
    ] = "",
    expand: Annotated[
        int, typer.Option(metavar="N", help="Search once more with the query moved towards its N nearest, such as 10.")
    ] = 0,
    rerank: Annotated[
        str,
        typer.Option(
            metavar="WAY",
            help="Put the first 100 into another order: reciprocal, by the neighbours shared with the query; "
            "diffusion, through the graph of neighbours; or measures, by a vote of cosine, l2 and ip.",
        ),
    ] = "",
    using: Annotated[
        Optional[list[str]],
        typer.Option(
            metavar="NAME[=WEIGHT]",
            help="In a collection of several networks: search by this one; may be repeated. Rankings are fused by "
            "rank, or with weights from 0 to 1 by weighted similarity. [default: all, by rank]",
        ),
    ] = None,
    face: Annotated[
        Optional[str],
        typer.Option(
            metavar="N|all",
            help="In a collection of faces: which face of a picture, from the largest, or all, each by itself; not for "
            "clips. "
            "[default: 1]",
        ),
    ] = None,
    plot: Annotated[
        Optional[Path],
        typer.Option(help="Draw the neighbours into this file (.png, .pdf, .svg); of several results, numbered."),
    ] = None,
    allow_private_urls: AllowPrivateUrls = False,
    as_json: AsJson = False,
) -> None:
    """Find the images that look most like a picture, or show the person in it, or the videos that show its content."""
    from pipelines import query as pipeline
    from utilities.selections import Selection

    settings: Settings = context.obj
    if allow_private_urls:
        settings = replace(settings, allow_private_urls=True)

    results = pipeline.run(
        _expanded(images),
        unlike=_expanded(unlike or []),
        together=together,
        collection=collection,
        selection=Selection(
            top_k, filter, offset, min_similarity, group_by, expand, rerank, *_networks_in_use(using or [])
        ),
        face=None if face is None else _face(face),
        plot=plot,
        settings=settings,
    )
    for result in results:
        print_json(result_as_json(result)) if as_json else print_result(result)


@app.command()
def serve(
    context: typer.Context,
    collection: Annotated[Optional[str], typer.Option(help="Serve this one alone. [default: all]")] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; 0.0.0.0 lets other machines ask, for whom --token is meant.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes one that is free.")] = 8000,
    token: Annotated[
        Optional[str],
        typer.Option(
            envvar=ENVIRONMENT_VARIABLES["api_token"],
            help="What every request must carry, as a bearer token or as a password; without one nobody may add or "
            "remove items.",
        ),
    ] = None,
    cors_origin: Annotated[
        Optional[list[str]],
        typer.Option(help="A page of this origin may use the API, such as https://shop.example; may be repeated."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; more than one need a Milvus server.")] = 1,
    allow_private_urls: AllowPrivateUrls = False,
) -> None:
    """Serve a search page and an API, until Ctrl-C or SIGTERM."""
    from pipelines import serve as pipeline

    settings: Settings = context.obj
    if token is not None and not token.strip():
        raise InvalidArgument("--token is empty; give one, or leave it out.")
    settings = replace(
        settings,
        api_token=token or settings.api_token,
        cors_origins=",".join(cors_origin or ()) or settings.cors_origins,
        allow_private_urls=allow_private_urls or settings.allow_private_urls,
    )
    pipeline.run(collection=collection, host=host, port=port, workers=workers, settings=settings)


def _expanded(images: Sequence[str]) -> list[str]:
    """Files whose `~` the shell left alone, and URLs."""
    return [each if is_url(each) else str(Path(each).expanduser()) for each in images]


def _networks_in_use(using: Sequence[str]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The names in `NAME[=WEIGHT]`, and the weights, if they have any."""
    parts = [each.partition("=") for each in using]
    names, weights = tuple(name for name, *_ in parts), [weight for _, _, weight in parts]
    if not any(weights):
        return names, ()
    try:
        return names, tuple(float(weight) for weight in weights)
    except ValueError:
        raise InvalidArgument(
            f"--using {' --using '.join(using)}: each names one network; give every network a weight, such as "
            "--using resnet50=0.7 --using vgg16=0.3, or none."
        ) from None


def _face(text: str) -> int | Literal["all"]:
    try:
        return "all" if text == "all" else int(text)
    except ValueError:
        raise InvalidArgument(f"--face {text!r} is neither a number, from 1, the largest, nor all.") from None
