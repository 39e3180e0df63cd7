"""The `lookalike` command: parses, calls a pipeline's `run`, prints.

Results go to standard output, progress and messages to standard error. Exit status: 0 done, 1 the work failed, 2 the
call was wrong. This is the only place that turns errors into messages. Pipelines are imported by the verbs that need
them, so that `--help` answers at once.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from pipelines import cli_measure
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
    result_as_json,
    state_as_json,
)
from utilities.download import is_url
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
AllowPrivateUrls = Annotated[
    bool, typer.Option("--allow-private-urls", help="Let URLs lead to this machine and its private network.")
]


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
        Optional[str],
        typer.Option(
            help=f"{BACKBONE} Of faces: dlib, facenet, facenet512, arcface, openface or vggface. "
            "[default: the collection's own, else resnet50, or dlib for faces]"
        ),
    ] = None,
    weights: Annotated[
        Optional[str], typer.Option(help=f"{WEIGHTS} [default: the collection's own, else imagenet]")
    ] = None,
    extension: Annotated[Optional[str], typer.Option(help="Take only files with this extension.")] = None,
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
            metric=metric,
            runtime=runtime,
            precision=precision,
            pca=pca,
            whiten=whiten,
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
def query(
    context: typer.Context,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help="Pictures to search with: files or URLs; or clips.")
    ],
    collection: Annotated[
        Optional[str], typer.Option(help="Where to search; may be left out if there is only one.")
    ] = None,
    top_k: Annotated[int, typer.Option(help="How many neighbours, up to 16384.")] = 20,
    filter: Annotated[str, typer.Option(help="Only these: a Milvus expression such as 'label == \"cup\"'.")] = "",
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

    settings: Settings = context.obj
    if allow_private_urls:
        settings = replace(settings, allow_private_urls=True)

    results = pipeline.run(
        [each if is_url(each) else _expanded(each) for each in images],
        collection=collection,
        top_k=top_k,
        filter=filter,
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
            [info.name, counted(items, info.item_is), info.fingerprint.backbone, str(info.root or "-")]
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


def _face(text: str) -> int | Literal["all"]:
    try:
        return "all" if text == "all" else int(text)
    except ValueError:
        raise InvalidArgument(f"--face {text!r} is neither a number, from 1, the largest, nor all.") from None


def _expanded(path: str) -> str:
    """A path whose `~` the shell left alone."""
    return str(Path(path).expanduser())
