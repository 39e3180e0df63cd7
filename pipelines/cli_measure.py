"""The verbs of `lookalike` that look at what was embedded and measure it: parsed here, run by their pipelines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from pipelines.printing import counted
from pipelines.printing_measures import (
    print_backbones,
    print_backbones_as_json,
    print_duplicates,
    print_duplicates_as_json,
    print_evaluation,
    print_evaluation_as_json,
    print_exploration,
    print_exploration_as_json,
    print_fine_tuning,
    print_fine_tuning_as_json,
    print_indexes,
    print_indexes_as_json,
    print_moved,
    print_people,
    print_people_as_json,
    print_reduction,
    print_reduction_as_json,
    print_tuning,
    print_tuning_as_json,
)
from utilities.errors import InvalidArgument, LookalikeError

app = typer.Typer()
compare = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Compare networks, or indexes.")
app.add_typer(compare, name="compare")


def _expanded(path: str) -> Path:
    if not path:  # An unset variable of the shell would be the current directory.
        raise typer.BadParameter("It is empty; give a path.")
    return Path(path).expanduser()


def confirmed(question: str) -> bool:
    """Whether somebody sits there and says yes."""
    return sys.stdin.isatty() and typer.confirm(question, err=True)


Collection = Annotated[str, typer.Argument(help="Name of the collection.")]
WEIGHTS = "imagenet (downloaded once), random (untrained), or a .h5 or .keras file."
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
LabelsFile = Annotated[
    Optional[Path],
    typer.Option(
        "--labels",
        parser=_expanded,
        metavar="FILE",
        help="A CSV with the columns path and label, and of faces perhaps part, their number; what it does not name is "
        "left out. [default: a file's folder is its label]",
    ),
]
Out = Annotated[
    Optional[Path],
    typer.Option(
        parser=_expanded,
        metavar="DIR",
        help="Directory for pictures. [default: lookalike-reports/ and the name of what is looked at]",
    ),
]


def _out(out: Path | None, name: str) -> Path:
    if out is None:
        return Path("lookalike-reports") / name
    if out.exists() and not out.is_dir():
        raise InvalidArgument(f"--out {str(out)!r} is a file; give a directory.")
    return out


@app.command()
def evaluate(
    context: typer.Context,
    collection: Collection,
    labels: LabelsFile = None,
    queries: Annotated[
        Optional[int], typer.Option(min=1, help="Search with so many items, drawn at random. [default: all]")
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, max=16_383, help="Look at so many neighbours of each.")] = 20,
    exact: Annotated[
        bool, typer.Option("--exact", help="Rank everything for each query, without Milvus: the full mAP.")
    ] = False,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure how good a collection's answers are: each item is searched for among the others.

    Of a collection of faces also how well a threshold tells one person from another.
    """
    from pipelines import evaluate as pipeline

    evaluation = pipeline.run(
        collection,
        labels=labels,
        queries=queries,
        top_k=top_k,
        exact=exact,
        out=_out(out, collection),
        settings=context.obj,
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
        typer.Option(min=1, help="How many it has. [default: the fewest that keep 99 % of the full quality, or all]"),
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


@app.command()
def augment(
    context: typer.Context,
    collection: Collection,
    into: Annotated[str, typer.Option(help="Make this collection of the same items, or bring it up to date.")],
    neighbours: Annotated[int, typer.Option(min=1, max=100, help="Of each item.")] = 10,
) -> None:
    """Copy a collection with every vector moved towards its neighbours, which makes answers better; see `tune`."""
    from pipelines import augment as pipeline

    items = pipeline.run(collection, into=into, neighbours=neighbours, settings=context.obj)
    print(f"{into} holds {counted(items, 'item')}, each moved towards its {counted(neighbours, 'neighbour')}")


@app.command()
def tune(
    context: typer.Context,
    collection: Collection,
    labels: LabelsFile = None,
    sample: Annotated[
        int, typer.Option(min=20, max=20_000, help="Search, and search with, at most so many items.")
    ] = 5_000,
    slower: Annotated[
        float, typer.Option(min=1.0, help="The best may take so many times as long as a plain query.")
    ] = 3.0,
    embed: Annotated[
        bool,
        typer.Option("--embed", help="Embed the sample anew, too, with other views and pooling; takes long."),
    ] = False,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Try PCA, augmentation, expansion and re-ranking by your own labels, and say which pays, and what it costs."""
    from pipelines import tune as pipeline

    tuning = pipeline.run(
        collection,
        labels=labels,
        sample=sample,
        slower=slower,
        embed=embed,
        out=_out(out, collection),
        settings=context.obj,
    )
    print_tuning_as_json(tuning) if as_json else print_tuning(tuning)


@compare.command("backbones")
def compare_backbones(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="A tree of images whose folders are their labels.")],
    backbone: Annotated[
        list[str], typer.Option(help="A network, NAME or NAME=WEIGHTS, as `load` takes both; may be given many times.")
    ],
    sample: Annotated[int, typer.Option(min=2, help="Look at so many images, drawn at random.")] = 2_000,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Show how fast and how good networks are on your images."""
    from pipelines import compare as pipeline

    directory = directory.expanduser()
    comparison = pipeline.backbones(
        directory, backbone, sample=sample, out=_out(out, directory.resolve().name), settings=context.obj
    )
    print_backbones_as_json(comparison) if as_json else print_backbones(comparison)
    if comparison.chart is None:
        raise typer.Exit(LookalikeError.exit_status)


@compare.command("indexes")
def compare_indexes(
    context: typer.Context,
    collection: Collection,
    scale: Annotated[
        Optional[int], typer.Option(min=1, help="Make so many vectors of the collection's, each moved a little.")
    ] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Show how fast and how right searches are: Milvus's indexes and other libraries, on a collection's vectors."""
    from pipelines import compare as pipeline

    comparison = pipeline.indexes(collection, scale=scale, out=_out(out, collection), settings=context.obj)
    print_indexes_as_json(comparison) if as_json else print_indexes(comparison)


@app.command()
def explore(
    context: typer.Context,
    collection: Collection,
    labels: LabelsFile = None,
    sample: Annotated[
        int, typer.Option(min=10, max=5_000, help="Show at most so many items, drawn at random.")
    ] = 2_000,
    clusters: Annotated[
        Optional[int],
        typer.Option(min=1, help="Look for so many. [default: as many as labels, else the root of half the items]"),
    ] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Draw what was embedded: maps by t-SNE and UMAP, images as tiles, clusters, and a page to wander about in."""
    from pipelines import explore as pipeline

    exploration = pipeline.run(
        collection,
        labels=labels,
        sample=sample,
        clusters=clusters,
        out=_out(out, collection),
        settings=context.obj,
    )
    print_exploration_as_json(exploration) if as_json else print_exploration(exploration)


@app.command()
def people(
    context: typer.Context,
    collection: Collection,
    labels: Annotated[
        Optional[Path],
        typer.Option(
            parser=_expanded,
            metavar="FILE",
            help="A CSV with the columns path and label, and perhaps part, a face's number: who some of the faces are. "
            "People are named by it, and judged.",
        ),
    ] = None,
    least: Annotated[int, typer.Option(min=2, help="The fewest faces of a person.")] = 3,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Group the faces of a collection by whose they are, and draw a contact sheet of each person."""
    from pipelines import people as pipeline

    out = _out(out, collection) if out else _out(None, collection) / "people"
    found = pipeline.run(collection, labels=labels, least=least, out=out, settings=context.obj)
    print_people_as_json(found) if as_json else print_people(found)


@app.command()
def duplicates(
    context: typer.Context,
    collection: Collection,
    move_to: Annotated[
        Optional[Path],
        typer.Option(
            parser=_expanded,
            metavar="DIR",
            help="Move all but the best of each group, and but what is altered or shows more, into this folder outside "
            "the tree, and remove their items.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --move-to, do not ask.")] = False,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Find the images of a collection that are near-identical: resized, re-encoded, cropped, mirrored, recoloured.

    Groups, the best file of each first, as a CSV and as contact sheets. The best has most pixels, then most bytes; how
    sharp it is is not looked at, so that an enlarged copy comes before its original. Nothing is moved unless --move-to
    is said, and nothing is ever deleted.
    """
    from pipelines import duplicates as pipeline

    out = _out(out, collection) if out else _out(None, collection) / "duplicates"
    if yes and not move_to:
        raise InvalidArgument("--yes says something of --move-to; give that, too.")
    if move_to and as_json and not yes:
        raise InvalidArgument("--json shows nothing before it is done, and so asks nothing; give --yes, too.")
    if move_to:
        pipeline.check_destination(collection, move_to, context.obj)
    found = pipeline.run(collection, out=out, settings=context.obj)
    if not as_json:
        print_duplicates(found)
    moved = None
    if move_to and found.superfluous:
        files = counted(len(found.superfluous), "file")
        if not yes and not confirmed(f"Move {files} to {move_to}, and remove them from {collection!r}?"):
            raise InvalidArgument("Nothing was moved; say --yes to move without being asked.")
        moved = pipeline.move(found, move_to, context.obj)
    if as_json:
        print_duplicates_as_json(found, moved)
    elif moved:
        print_moved(moved)
    if moved and moved.left:
        raise typer.Exit(LookalikeError.exit_status)


@app.command("fine-tune")
def fine_tune(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="A tree of images whose folders are their labels.")],
    out: Annotated[
        Path,
        typer.Option(
            parser=_expanded,
            metavar="FILE",
            help="The weights to write, FILE.keras; beside them lie FILE.split.csv, who was held out, and FILE.png.",
        ),
    ],
    objective: Annotated[
        str,
        typer.Option(
            help="classify: tell the labels apart. contrastive: images of one label, or without labels two altered "
            "copies of one image, lie together. autoencoder: rebuild the image, without labels."
        ),
    ] = "classify",
    backbone: Annotated[
        Optional[str],
        typer.Option(help="The network to begin with, as `load` takes it. [default: the weights' own, else resnet50]"),
    ] = None,
    weights: Annotated[Optional[str], typer.Option(help=f"What it begins with: {WEIGHTS} [default: imagenet]")] = None,
    labels: LabelsFile = None,
    no_labels: Annotated[
        bool, typer.Option("--no-labels", help="The folders mean nothing: learn without labels.")
    ] = False,
    training: Annotated[
        Optional[int],
        typer.Option(
            min=1,
            help="Train on at most so many images of each label, or of all without labels, a tenth of which is for "
            "validation; hold out the rest, one at least. [default: four in five]",
        ),
    ] = None,
    epochs: Annotated[
        int, typer.Option(min=1, help="Look at each image at most so often; three times without a lower loss end it.")
    ] = 6,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Of the split, the order, and how images are altered.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Teach a network your own images, and measure on others what that was worth.

    A run that was stopped goes on when the same command is given again.
    """
    from pipelines import fine_tune as pipeline

    tuned = pipeline.run(
        directory.expanduser(),
        out=out,
        objective=objective,
        backbone=backbone,
        weights=weights and str(_expanded(weights)),
        labels=labels,
        use_labels=not no_labels,
        training=training,
        epochs=epochs,
        seed=seed,
        settings=context.obj,
    )
    print_fine_tuning_as_json(tuned) if as_json else print_fine_tuning(tuned)
