"""The `lookalike` command: parses, calls a pipeline's `run`, prints.

Results go to standard output, progress and messages to standard error. Exit status: 0 done, 1 the work failed, 2 the
call was wrong. This is the only place that turns errors into messages. Pipelines are imported by the verbs that need
them, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from utilities.errors import InvalidArgument, LookalikeError
from utilities.settings import ENVIRONMENT_VARIABLES, Settings

if TYPE_CHECKING:
    from pipelines.load import LoadSummary
    from pipelines.manage import CollectionState
    from pipelines.query import QueryResult

app = typer.Typer(
    name="lookalike",
    help="Reverse image search over your own files: load a directory tree once, then ask for lookalikes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Collection = Annotated[str, typer.Argument(help="Name of the collection.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Backbone = Annotated[str, typer.Option(help="The network: a name of keras.applications in lower case.")]
Weights = Annotated[str, typer.Option(help="imagenet (downloaded once), random (untrained), or a .h5 or .keras file.")]


def main() -> None:
    """Entry point: run the command, and turn an error into a sentence and an exit status."""
    messages = logging.StreamHandler()  # standard error
    messages.setFormatter(logging.Formatter("lookalike: %(message)s"))
    for name in ("utilities", "pipelines"):
        logging.getLogger(name).addHandler(messages)
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        app()
    except LookalikeError as error:
        _fail(str(error), error.exit_status)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}.", LookalikeError.exit_status)


def _fail(message: str, exit_status: int) -> None:
    print(f"lookalike: {message}", file=sys.stderr)
    sys.exit(exit_status)


@app.callback()
def common(
    context: typer.Context,
    home: Annotated[
        Optional[Path],
        typer.Option(
            envvar=ENVIRONMENT_VARIABLES["home"],
            help="Where the embedded database, the id maps and the exported networks lie. [default: lookalike-data]",
        ),
    ] = None,
    milvus_uri: Annotated[
        Optional[str],
        typer.Option(
            envvar=ENVIRONMENT_VARIABLES["milvus_uri"],
            help="Address of a Milvus server. [default: the embedded database]",
        ),
    ] = None,
    milvus_token: Annotated[
        Optional[str],
        typer.Option(envvar=ENVIRONMENT_VARIABLES["milvus_token"], help="user:password or API key of the server."),
    ] = None,
) -> None:
    """Reverse image search over your own files: load a directory tree once, then ask for lookalikes."""
    context.obj = Settings.load(home=home, milvus_uri=milvus_uri, milvus_token=milvus_token)


@app.command()
def load(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="The tree of images.")],
    collection: Annotated[Optional[str], typer.Option(help="Its name. [default: made from the directory's]")] = None,
    backbone: Backbone = "resnet50",
    weights: Weights = "imagenet",
    extension: Annotated[Optional[str], typer.Option(help="Take only files with this extension.")] = None,
    metric: Annotated[str, typer.Option(help="How vectors compare: cosine, l2 or ip.")] = "cosine",
    strict: Annotated[bool, typer.Option(help="Exit with 1 if any image could not be read.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put every image of a directory tree into a collection. Images that are there and unchanged are passed over."""
    from pipelines import load as pipeline

    summary = pipeline.run(
        directory,
        collection=collection,
        backbone=backbone,
        weights=weights,
        extension=extension,
        metric=metric,
        settings=context.obj,
    )
    _print_json(asdict(summary)) if as_json else _print_summary(summary)
    nothing_loaded = summary.failed == summary.found
    if summary.failed and (strict or nothing_loaded):
        raise typer.Exit(LookalikeError.exit_status)


@app.command()
def query(
    context: typer.Context,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Pictures to search with: files or URLs.")],
    collection: Annotated[
        Optional[str], typer.Option(help="Where to search; may be left out if there is only one.")
    ] = None,
    top_k: Annotated[int, typer.Option(help="How many neighbours.")] = 20,
    filter: Annotated[str, typer.Option(help="Only these: a Milvus expression such as 'label == \"cup\"'.")] = "",
    plot: Annotated[Optional[Path], typer.Option(help="Draw the neighbours into this file (.png, .pdf, .svg).")] = None,
    as_json: AsJson = False,
) -> None:
    """Find the images that look most like a picture."""
    from pipelines import query as pipeline

    results = pipeline.run(images, collection=collection, top_k=top_k, filter=filter, plot=plot, settings=context.obj)
    for result in results:
        _print_json(_result_as_json(result)) if as_json else _print_result(result)


@app.command()
def collections(context: typer.Context, as_json: AsJson = False) -> None:
    """List the collections."""
    from pipelines import manage

    states = manage.collections(context.obj)
    if as_json:
        _print_json([_state_as_json(state) for state in states])
    elif not states:
        print("There is no collection yet; `lookalike load DIR` makes one.")
    else:
        rows = [
            [state.info.name, f"{state.items:,}", state.info.fingerprint.backbone, str(state.info.root or "-")]
            for state in states
        ]
        _print_table(["collection", "items", "backbone", "root"], rows, right={1})


@app.command()
def info(context: typer.Context, collection: Collection, as_json: AsJson = False) -> None:
    """Show what a collection holds and what it was made by."""
    from pipelines import manage

    state = manage.info(collection, context.obj)
    if as_json:
        _print_json(_state_as_json(state))
        return
    for name, value in _state_as_json(state).items():
        print(f"{name.replace('_', ' '):<15} {'-' if value is None else value}")
    if state.items != state.id_map_rows:
        print(
            f"lookalike: the id map has {state.id_map_rows:,} rows for {state.items:,} items; "
            f"`lookalike export {collection}` writes it anew.",
            file=sys.stderr,
        )


@app.command()
def export(
    context: typer.Context,
    collection: Collection,
    output: Annotated[Optional[Path], typer.Option(help="Where to. [default: the id map's own place]")] = None,
) -> None:
    """Write a collection's id map, the CSV of ids and paths, anew from what Milvus holds."""
    from pipelines import manage

    path, rows = manage.export(collection, output, context.obj)
    print(f"{rows:,} rows written to {path}")


@app.command()
def drop(
    context: typer.Context,
    collection: Collection,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a collection with its id map. The images themselves are not touched."""
    from pipelines import manage

    state = manage.info(collection, context.obj)
    if not yes and not _confirmed(f"Remove the collection {collection!r} with its {state.items:,} items?"):
        raise InvalidArgument(f"Nothing was removed; `lookalike drop {collection} --yes` does not ask.")
    manage.drop(collection, context.obj)
    print(f"{collection} removed ({state.items:,} items)")


@app.command()
def delete(
    context: typer.Context,
    collection: Collection,
    paths: Annotated[Optional[list[str]], typer.Argument(metavar="[PATH...]", help="Items to remove.")] = None,
    filter: Annotated[str, typer.Option(help="Remove whatever satisfies a Milvus expression.")] = "",
) -> None:
    """Remove items from a collection. The images are not touched; loading their tree again inserts them again."""
    from pipelines import manage

    print(f"{manage.delete(collection, paths or (), filter, context.obj):,} items deleted from {collection}")


@app.command()
def demo(
    context: typer.Context,
    images: Annotated[Optional[Path], typer.Option(help="A tree of your own. [default: one is drawn]")] = None,
    query: Annotated[
        Optional[Path], typer.Option(help="The picture to search with. [default: one of the tree]")
    ] = None,
    backbone: Backbone = "resnet50",
    weights: Weights = "imagenet",
) -> None:
    """Load a small tree, query it, and draw the top 20 into demo/top20.png."""
    from pipelines import demo as pipeline

    summary, result, note = pipeline.run(images, query, backbone, weights, context.obj)
    _print_summary(summary)
    if note:
        print(f"NOTE: {note}")
    _print_result(result)


def _confirmed(question: str) -> bool:
    return sys.stdin.isatty() and typer.confirm(question)


def _print_summary(summary: LoadSummary) -> None:
    print(
        f"{summary.found:,} found: {summary.inserted:,} inserted, {summary.unchanged:,} unchanged, "
        f"{summary.failed:,} failed; {summary.collection} holds {summary.items:,} items"
    )
    print(f"ids and paths: {summary.id_map}")
    if summary.failures:
        print(f"what failed and why: {summary.failures}")


def _print_result(result: QueryResult) -> None:
    print(f"\nquery: {result.query}")
    by_distance = bool(result.matches) and result.matches[0].distance is not None
    rows = [[str(match.rank), f"{match.score:.4f}", match.path] for match in result.matches]
    _print_table(["rank", "distance" if by_distance else "similarity", "path"], rows, right={0, 1})
    if result.plot:
        print(f"plot: {result.plot}")


def _print_table(header: list[str], rows: list[list[str]], right: set[int]) -> None:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())


def _result_as_json(result: QueryResult) -> dict[str, Any]:
    matches = [{key: value for key, value in asdict(match).items() if value is not None} for match in result.matches]
    return {"query": result.query, "matches": matches}


def _state_as_json(state: CollectionState) -> dict[str, Any]:
    fingerprint = state.info.fingerprint
    return {
        "collection": state.info.name,
        "items": state.items,
        "root": state.info.root,
        "id_map": state.id_map,
        "id_map_rows": state.id_map_rows,
        "metric": state.info.metric,
        "backbone": fingerprint.backbone,
        "dimension": fingerprint.dimension,
        "weights": state.info.weights,
        "weights_digest": fingerprint.weights_digest,
        "preprocessing": fingerprint.preprocessing,
    }


def _print_json(value: Any) -> None:
    print(json.dumps(value, default=str, ensure_ascii=False))
