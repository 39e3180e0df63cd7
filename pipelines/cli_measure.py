"""The verbs of `lookalike` that look at what was embedded and measure it: parsed here, run by their pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from pipelines.printing import print_evaluation, print_evaluation_as_json, print_reduction, print_reduction_as_json
from utilities.errors import InvalidArgument

app = typer.Typer()

Collection = Annotated[str, typer.Argument(help="Name of the collection.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
LabelsFile = Annotated[
    Optional[Path],
    typer.Option("--labels", help="A CSV with the columns path and label. [default: a file's folder is its label]"),
]
Out = Annotated[
    Optional[Path], typer.Option(help="Directory for pictures. [default: lookalike-reports/ and the collection's name]")
]


def _out(out: Path | None, name: str) -> Path:
    if out is None:
        return Path("lookalike-reports") / name
    if out.exists() and not out.is_dir():
        raise InvalidArgument(f"--out {str(out)!r} is a file; give a directory.")
    return out.expanduser()


@app.command()
def evaluate(
    context: typer.Context,
    collection: Collection,
    labels: LabelsFile = None,
    queries: Annotated[
        Optional[int], typer.Option(min=1, help="Search with so many items, drawn at random. [default: all]")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Rank everything for each query, without Milvus: the full mAP.")
    ] = False,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure how good a collection's answers are: each item is searched for among the others."""
    from pipelines import evaluate as pipeline

    evaluation = pipeline.run(
        collection, labels=labels, queries=queries, exact=exact, out=_out(out, collection), settings=context.obj
    )
    print_evaluation_as_json(evaluation) if as_json else print_evaluation(evaluation)


@app.command()
def reduce(
    context: typer.Context,
    collection: Collection,
    into: Annotated[
        Optional[str], typer.Option(help="Make this collection of the same items, with fewer dimensions.")
    ] = None,
    pca: Annotated[
        Optional[int],
        typer.Option(min=1, help="How many it has. [default: the fewest that keep 99 % of the full quality]"),
    ] = None,
    whiten: Annotated[bool, typer.Option("--whiten", help="Make all dimensions vary alike.")] = False,
    labels: LabelsFile = None,
    sample: Annotated[int, typer.Option(min=100, help="Fit to, and search with, at most so many items.")] = 5_000,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Show how many dimensions a collection needs, by PCA; with --into, copy it with so many, embedding nothing."""
    from pipelines import reduce as pipeline

    reduction = pipeline.run(
        collection,
        into=into,
        pca=pca,
        whiten=whiten,
        labels=labels,
        sample=sample,
        out=_out(out, collection),
        settings=context.obj,
    )
    print_reduction_as_json(reduction) if as_json else print_reduction(reduction)
