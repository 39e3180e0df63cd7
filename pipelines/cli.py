"""The `lookalike` command: parses, calls a pipeline's `run`, prints.

Results go to standard output, progress and messages to standard error. Exit status: 0 done, 1 the work failed, 2 the
call was wrong. This is the only place that turns errors into messages. Pipelines are imported by the verbs that need
them, so that `--help` answers at once.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from pipelines import cli_measure, cli_search
from pipelines.cli_measure import WEIGHTS, AsJson, Collection, confirmed
from pipelines.printing import (
    counted,
    info_as_json,
    print_json,
    print_result,
    print_state,
    print_summary,
    print_summary_as_json,
    print_table,
    state_as_json,
)
from utilities.errors import InvalidArgument, LookalikeError, Stopped
from utilities.settings import ENVIRONMENT_VARIABLES, Settings
from utilities.stopping import raise_stopped_on_signals

app = typer.Typer(
    name="lookalike",
    help="Reverse image search over your own files: load a directory tree once, then ask for lookalikes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

BACKBONE = "The network: a name of keras.applications in lower case."


app.add_typer(cli_search.app)
app.add_typer(cli_measure.app)


def main() -> None:
    """Entry point: run the command, and turn an error into a sentence and an exit status."""
    messages = logging.StreamHandler()  # standard error
    messages.setFormatter(logging.Formatter("lookalike: %(message)s"))
    for name in ("utilities", "pipelines"):
        logging.getLogger(name).addHandler(messages)
        logging.getLogger(name).setLevel(logging.INFO)
        logging.getLogger(name).propagate = False  # Keras gives the root logger a handler of its own.
    raise_stopped_on_signals()
    try:
        app()
    except (LookalikeError, Stopped) as error:
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
    directory: Annotated[Path, typer.Argument(help="The tree of images, or of videos.")],
    what: Annotated[
        Optional[str],
        typer.Option(
            help="images, faces: each face in them, or videos: frames of them. "
            "[default: what the collection holds, else images]"
        ),
    ] = None,
    every: Annotated[
        Optional[float],
        typer.Option(
            min=0.01, help="With videos, seconds from one frame to the next. [default: the collection's, else 1]"
        ),
    ] = None,
    scenes: Annotated[bool, typer.Option("--scenes", help="With videos, take the first frame of each scene.")] = False,
    faces: Annotated[bool, typer.Option("--faces", help="With videos, search the faces in those frames.")] = False,
    collection: Annotated[Optional[str], typer.Option(help="Its name. [default: made from the directory's]")] = None,
    backbone: Annotated[
        Optional[list[str]],
        typer.Option(
            help=f"{BACKBONE} May be given several times, as NAME or NAME=WEIGHTS: then queries fuse their rankings. "
            "Of faces: dlib, facenet, facenet512, arcface, openface or vggface. "
            "[default: the collection's own, else resnet50, or dlib for faces]"
        ),
    ] = None,
    weights: Annotated[
        Optional[str], typer.Option(help=f"{WEIGHTS} [default: the collection's own, else imagenet]")
    ] = None,
    extension: Annotated[Optional[str], typer.Option(help="Take only files with this extension.")] = None,
    attributes: Annotated[
        Optional[Path],
        typer.Option(
            metavar="FILE.csv",
            help="A CSV with a column path, relative to the tree; each further one becomes an attribute for filters.",
        ),
    ] = None,
    metric: Annotated[
        Optional[str],
        typer.Option(help="How vectors compare: cosine, l2 or ip. [default: the collection's, else cosine]"),
    ] = None,
    runtime: Annotated[
        str, typer.Option(help="What runs the network: openvino, keras, or auto, which is keras where it has a GPU.")
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            help="What the network computes in: f32, bf16, int8 (calibrated on this tree by its first load), or auto, "
            "the fastest that keeps its vectors."
        ),
    ] = "auto",
    pca: Annotated[
        Optional[int],
        typer.Option(
            min=1,
            help="Project the vectors to so many dimensions, by PCA fitted on this tree by its first load. "
            "[default: the collection's, else the network's own]",
        ),
    ] = None,
    whiten: Annotated[bool, typer.Option("--whiten", help="With --pca, make all dimensions vary alike.")] = False,
    pooling: Annotated[
        Optional[str],
        typer.Option(
            help="How feature maps become a vector: average, or gem, the generalised mean, in which large values weigh "
            "more. [default: the collection's, else average]"
        ),
    ] = None,
    views: Annotated[
        Optional[str],
        typer.Option(
            help="How pictures are shown to the network: squash to a square, crop the middle square, pad to a square, "
            "zoom into the middle 7/8. Of several, as in squash,crop, the vectors are averaged; with mirror, as in "
            "squash,mirror, those of the mirror images of each, too. [default: the collection's, else squash]"
        ),
    ] = None,
    keep_length: Annotated[
        bool,
        typer.Option("--keep-length", help="Let vectors keep the length that the network gives them, instead of 1."),
    ] = False,
    index: Annotated[
        Optional[str],
        typer.Option(
            help="flat, ivf_flat, ivf_sq8, hnsw, or auto, chosen by size and database. [default: the collection's, "
            "else auto]"
        ),
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Remove the items whose files are gone.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file again; embed those whose bytes have changed.")
    ] = False,
    moved: Annotated[bool, typer.Option("--moved", help="The collection's tree lies in this directory now.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if any file could not be read.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put every image of a tree, every face, or every video into a collection. What did not change is passed over."""
    from pipelines import load as pipeline

    show = print_summary_as_json if as_json else print_summary
    try:
        summary = pipeline.run(
            directory.expanduser(),
            what=what,
            every=every,
            scenes=scenes,
            faces=faces,
            collection=collection,
            backbone=backbone,
            weights=weights and _expanded(weights),
            extension=extension,
            attributes=attributes and attributes.expanduser(),
            metric=metric,
            runtime=runtime,
            precision=precision,
            pca=pca,
            whiten=whiten,
            pooling=pooling,
            views=views,
            keep_length=keep_length,
            index=index,
            prune=prune,
            verify=verify,
            moved=moved,
            settings=context.obj,
        )
    except pipeline.LoadStopped as stopped:
        show(stopped.summary)
        raise
    show(summary)
    nothing_loaded = summary.failed == summary.found
    if summary.failed and (strict or nothing_loaded):
        raise typer.Exit(LookalikeError.exit_status)


@app.command()
def collections(context: typer.Context, as_json: AsJson = False) -> None:
    """List the collections."""
    from pipelines import manage

    found = manage.collections(context.obj)
    if as_json:
        print_json([{**info_as_json(info), "items": items} for info, items in found])
    elif not found:
        print(f"There is no collection in {context.obj.database} yet; `lookalike load DIR` makes the first.")
    else:
        rows = [
            [
                info.name,
                counted(items, info.item_is),
                ", ".join(each.backbone for each in info.fingerprints),
                str(info.root or "-"),
            ]
            for info, items in found
        ]
        print_table(["collection", "holds", "backbone", "root"], rows, right={1})


@app.command()
def info(context: typer.Context, collection: Collection, as_json: AsJson = False) -> None:
    """Show what a collection holds and what it was made by."""
    from pipelines import manage

    state = manage.info(collection, context.obj)
    print_json(state_as_json(state)) if as_json else print_state(state)


@app.command()
def export(
    context: typer.Context,
    collection: Collection,
    output: Annotated[Optional[Path], typer.Option(help="Where to. [default: the id map's own place]")] = None,
) -> None:
    """Write a collection's id map, the CSV of ids and paths, anew from what Milvus holds."""
    from pipelines import manage

    path, rows = manage.export(collection, output, context.obj)
    print(f"{counted(rows, 'row')} written to {path}")


@app.command()
def drop(
    context: typer.Context,
    collection: Collection,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a collection with its id map. The images themselves are not touched."""
    from pipelines import manage

    items = counted(manage.count(collection, context.obj), "item")
    if not yes and not confirmed(f"Remove the collection {collection!r} with its {items}?"):
        raise InvalidArgument(f"Nothing was removed; `lookalike drop {collection} --yes` does not ask.")
    manage.drop(collection, context.obj)
    print(f"{collection} removed ({items})")


@app.command()
def delete(
    context: typer.Context,
    collection: Collection,
    paths: Annotated[Optional[list[str]], typer.Argument(metavar="PATH", help="Items to remove.")] = None,
    filter: Annotated[str, typer.Option(help="Remove whatever satisfies a Milvus expression.")] = "",
) -> None:
    """Remove items from a collection. The images are not touched; loading their tree again inserts them again."""
    from pipelines import manage

    paths = [_expanded(path) for path in paths or ()]
    deleted = manage.delete(collection, paths, filter, context.obj)
    print(f"{counted(deleted, 'item')} deleted from {collection}")


@app.command()
def demo(
    context: typer.Context,
    images: Annotated[Optional[Path], typer.Option(help="A tree of your own. [default: one is drawn]")] = None,
    query: Annotated[
        Optional[Path], typer.Option(help="The picture to search with. [default: one of the tree]")
    ] = None,
    backbone: Annotated[str, typer.Option(help=BACKBONE)] = "resnet50",
    weights: Annotated[str, typer.Option(help=WEIGHTS)] = "imagenet",
) -> None:
    """Load a small tree, query it, and draw the top 20 into ./demo/top20.png; all it writes lies in ./demo."""
    from pipelines import demo as pipeline

    summary, result, note = pipeline.run(
        images and images.expanduser(), query and query.expanduser(), backbone, _expanded(weights), context.obj
    )
    print_summary(summary)
    if note:
        print(f"NOTE: {note}")
    print_result(result)


def _expanded(path: str) -> str:
    """A path whose `~` the shell left alone."""
    return str(Path(path).expanduser())
