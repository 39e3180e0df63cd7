"""What the verbs that measure print: tables for people, JSON for machines, both on standard output."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from pipelines.printing import counted, print_json, print_table
from utilities.items import printable

if TYPE_CHECKING:
    from pipelines.compare import BackboneComparison, IndexComparison
    from pipelines.duplicates import Duplicate, Duplicates, Moved
    from pipelines.evaluate import Evaluation
    from pipelines.explore import Exploration
    from pipelines.fine_tune import FineTuning
    from pipelines.people import People
    from pipelines.reduce import Reduction, Worth
    from pipelines.tune import TuningResult
    from utilities.retrieval_metrics import Estimate
    from utilities.verification import Verification

#: Rows of each table of what went worst, and groups of duplicates that are printed.
_WORST = 5
#: Files of each such group.
_OF_GROUP = 8


def print_evaluation(evaluation: Evaluation) -> None:
    left_out = evaluation.not_searched_with
    print(
        f"{evaluation.collection}: {counted(evaluation.items, 'item')} of {counted(evaluation.labels, 'label')}, "
        f"{evaluation.queries:,} searched with"
        + (f"; {left_out:,} have no label, or share it with no other" if left_out else "")
        + (f"; the network was trained on {evaluation.trained_on:,}" if evaluation.trained_on else "")
    )
    print()
    figures = [
        [name, f"{each.mean:.4f}", f"{each.low:.4f} to {each.high:.4f}"] for name, each in evaluation.figures.items()
    ]
    print_table(["metric", "mean", "95 % interval"], figures, right={1})
    _print_highest(evaluation.highest, evaluation.top_k)
    if evaluation.verification:
        _print_verification(evaluation.verification)
    print("\nlabels that are found worst")
    worst = evaluation.worst.head(_WORST)
    rows = zip(worst["label"], worst["queries"], worst["mean"], strict=True)
    print_table(
        ["label", "queries", f"precision@{evaluation.top_k}"],
        [[printable(label), f"{n:,}", f"{mean:.4f}"] for label, n, mean in rows],
        {1, 2},
    )
    if evaluation.confusions.empty:
        print("\nno label is taken for another")
    else:
        print("\nlabels that are taken for others most")
        taken = evaluation.confusions.head(_WORST)
        shares = zip(taken["label"], taken["found"], taken["share"], strict=True)
        print_table(
            ["label", "found in its place", "of its neighbours"],
            [[printable(label), printable(found), f"{share:.1%}"] for label, found, share in shares],
            {2},
        )
    print(f"\nthe worst queries: {evaluation.picture}")
    if evaluation.roc:
        print(f"one person or two, at every threshold: {evaluation.roc}")


def _print_highest(highest: float | None, k: int = 20) -> None:
    if highest is not None and highest < 1:
        print(f"precision@{k} cannot be more than {highest:.4f} here, where labels have few items")


def _print_verification(found: Verification) -> None:
    print(f"\none person or two, of {found.mated:,} pairs of one and {found.non_mated:,} pairs of two")
    rows = [
        ["equal error rate", f"{found.equal_error_threshold:.4f}", *[f"{found.equal_error_rate:.2%}"] * 2],
        [
            *("one false match in 1,000", f"{found.threshold:.4f}"),
            *(f"{found.false_match_rate:.2%}", f"{1 - found.true_match_rate:.2%}"),
        ],
    ]
    print_table(["threshold", "similarity", "two taken for one", "one taken for two"], rows, right={1, 2, 3})
    if found.non_mated < 1_000:
        print("one in 1,000 cannot be told from fewer than 1,000 pairs: this is the threshold at which none is wrong")


def print_evaluation_as_json(evaluation: Evaluation) -> None:
    numbers: dict[str, float] = {
        "items": evaluation.items,
        "labels": evaluation.labels,
        "queries": evaluation.queries,
        "not_searched_with": evaluation.not_searched_with,
        "trained_on": evaluation.trained_on,
    }
    for name, each in evaluation.figures.items():
        numbers |= {name: each.mean, f"{name}_low": each.low, f"{name}_high": each.high}
    if evaluation.verification:
        found = evaluation.verification
        numbers |= {
            "equal_error_rate": found.equal_error_rate,
            "equal_error_threshold": found.equal_error_threshold,
            "threshold_at_fmr_0.001": found.threshold,
            "true_match_rate_at_fmr_0.001": found.true_match_rate,
        }
    print_json(numbers)


def print_reduction(reduction: Reduction) -> None:
    def row(worth: Worth, name: str) -> list[str]:
        quality = [worth.precision, worth.map] if worth.precision is not None else []
        figures = [f"{100 * worth.variance:.1f}", *(f"{each:.4f}" for each in (*quality, worth.overlap))]
        return [name, *figures, "enough" if name == str(reduction.enough) else ""]

    print(f"{reduction.collection}: PCA fitted to {counted(reduction.sample, 'vector')}")
    quality = ["precision@20", "mAP"] if reduction.full.precision is not None else []
    rows = [row(each, f"{each.dimension}") for each in reduction.reduced]
    rows.append(row(reduction.full, f"all {reduction.full.dimension}"))
    print_table(["dimensions", "variance %", *quality, "nearest 20 kept", ""], rows, right=set(range(5)))
    if reduction.enough is None:
        print("no number that was tried keeps 99 % of the full quality")
    else:
        print(f"{reduction.enough:,} dimensions keep 99 % of the full quality, or more")
    if reduction.best is not None:
        print(f"{reduction.best:,} dimensions have the highest mAP")
    _print_highest(reduction.highest)
    print(f"chart: {reduction.chart}")
    if reduction.into:
        name, items, dimensions = reduction.into
        print(f"{name} holds {counted(items, 'item')} of {counted(dimensions, 'dimension')}")


def print_reduction_as_json(reduction: Reduction) -> None:
    print_json(asdict(reduction))


def print_backbones(comparison: BackboneComparison) -> None:
    taught = (
        f"; {comparison.trained_on:,} were trained on and are searched with by none" if comparison.trained_on else ""
    )
    print(f"{counted(comparison.images, 'image')} of {counted(comparison.labels, 'label')}{taught}")
    header = ["backbone", "dimension", "bytes a vector", "images a second", "precision@20", "mAP", "accuracy@5"]
    rows = []
    for row in comparison.rows:
        figures = [f"{row.dimension:,}", f"{row.bytes_per_vector:,}"]
        if row.images_per_second and row.precision and row.map and row.accuracy:
            quality = [f"{each.mean:.4f}" for each in (row.precision, row.map, row.accuracy)]
            rows.append([row.name, *figures, f"{row.images_per_second:,.1f}", *quality])
        else:
            rows.append([row.name, *figures, "-", "-", "-", "-"])
    print_table(header, rows, right=set(range(1, 7)))
    _print_highest(comparison.highest)
    for row in comparison.rows:
        if row.reason:
            print(f"{row.name}: {row.reason}")
    if comparison.chart:
        print(f"chart: {comparison.chart}")


def print_backbones_as_json(comparison: BackboneComparison) -> None:
    rows = [{**asdict(row), "bytes_per_vector": row.bytes_per_vector} for row in comparison.rows]
    print_json({**asdict(comparison), "rows": rows})


def print_tuning(tuning: TuningResult) -> None:
    print(
        f"{tuning.collection}: {counted(tuning.searched, 'item')} searched; {tuning.tried} techniques tried with "
        f"{tuning.choosing:,} queries of {counted(tuning.choosing_labels, 'label')}, and shown on {tuning.reporting:,} "
        f"of {tuning.reporting_labels:,} others"
    )
    rows = [
        [
            str(row.technique),
            f"{row.precision.mean:.3f}",
            f"{row.map.mean:.3f}",
            "" if row.technique.parts == 0 else _signed(row.precision_gain),
            f"{row.embedding + row.search:.1f}",
            f"{row.times_as_long:.1f} ×",
            "" if row.technique.parts == 0 else "pays" if row.pays else "does not pay",
        ]
        for row in tuning.rows
    ]
    header = ["technique", "precision@20", "mAP", "gain in precision@20", "query ms", "time", ""]
    print_table(header, rows, right={1, 2, 4, 5})
    if not tuning.commands:
        print("nothing that was tried is better than the plain search")
    elif not tuning.pays:
        print(f"the best for the labels that chose, {tuning.best}, does not pay on the others")
    else:
        print(f"best that was found: {tuning.best}; to have it:")
        for command in tuning.commands:
            print(f"  {command}")
    if tuning.has_few_labels:
        print("few labels choose, or report: the intervals are of other pictures, not of other labels")
    print(f"chart: {tuning.chart}")


def print_tuning_as_json(tuning: TuningResult) -> None:
    rows = [{**asdict(row), "technique": str(row.technique), "pays": row.pays} for row in tuning.rows]
    print_json({**asdict(tuning), "rows": rows, "best": str(tuning.best), "pays": tuning.pays})


def print_indexes(comparison: IndexComparison) -> None:
    made = comparison.vectors - comparison.real
    print(
        f"{comparison.collection}: {counted(comparison.vectors, 'vector')} of {comparison.dimension:,} dimensions"
        + (f", {made:,} of them made of the others" if made else "")
    )
    header = ["index", "build s", "memory MiB", "1 query ms", "1,000 queries s", "recall@20"]

    def shown(number: float, format: str) -> str:
        return "-" if math.isnan(number) else f"{number:{format}}"

    rows = [
        [
            row.what,
            shown(row.build_seconds, ",.2f"),
            shown(row.memory, ",.0f"),
            shown(row.p50_milliseconds, ",.2f"),
            shown(row.batch_milliseconds, ",.3f"),  # Milliseconds of one are seconds of a thousand.
            shown(row.recall, ".4f"),
        ]
        for row in comparison.rows
    ]
    print_table(header, rows, right=set(range(1, 6)))
    for row in comparison.rows:
        if row.reason:
            print(f"{row.what}: {row.reason}")
    print(f"chart: {comparison.chart}")


def print_indexes_as_json(comparison: IndexComparison) -> None:
    rows = [
        {name: None if isinstance(each, float) and math.isnan(each) else each for name, each in asdict(row).items()}
        for row in comparison.rows
    ]
    print_json({**asdict(comparison), "rows": rows})


def print_exploration(exploration: Exploration) -> None:
    print(f"{exploration.collection}: {exploration.sample:,} of {counted(exploration.items, 'item')}")
    fit = ""
    if exploration.purity is not None and exploration.nmi is not None:
        fit = f", purity {exploration.purity:.3f} and NMI {exploration.nmi:.3f} with the labels"
    print(counted(exploration.clusters, "cluster") + fit)
    if exploration.unreadable:
        print(f"{counted(exploration.unreadable, 'image')} cannot be read, and shown in grey")
    if exploration.without_umap:
        print(exploration.without_umap)
    for picture in exploration.pictures:
        print(f"picture: {picture}")
    print(f"page: {exploration.page}")


def print_exploration_as_json(exploration: Exploration) -> None:
    print_json(asdict(exploration))


#: People of the table; all are in the CSV.
_PEOPLE = 20


def print_people(people: People) -> None:
    grouped = people.faces - people.alone
    persons = f"{len(people.people):,} {'person' if len(people.people) == 1 else 'people'}"
    faces = f"{people.collection}: {counted(people.faces, 'face')}"
    print(f"{faces}: {grouped:,} of {persons}, {people.alone:,} like too few others to be anybody's")
    if not people.people:
        print("nobody was told apart; a collection in which one person alone appears has no groups")
    if people.people:
        rows = [
            [str(each.number), printable(each.name), f"{each.faces:,}", f"{each.share:.0%}" if each.share else "-"]
            for each in people.people[:_PEOPLE]
        ]
        print_table(["person", "name", "faces", "of that label"], rows, right={0, 2, 3})
        more = len(people.people) - _PEOPLE
        print(f"{more:,} more: {people.csv}" if more > 0 else f"everybody: {people.csv}")
        print(f"contact sheets: {people.people[0].sheet} and so on")
    if people.precision is not None:
        print(f"pairwise precision {people.precision:.4f} (pairs put together that are one person)")
    if people.recall is not None:
        print(f"pairwise recall    {people.recall:.4f} (pairs of one person that are together)")


def print_people_as_json(people: People) -> None:
    print_json(asdict(people))


def print_duplicates(found: Duplicates) -> None:
    superfluous = found.superfluous
    print(
        f"{found.collection}: {counted(found.items, 'image')}, {len(superfluous):,} of them superfluous in "
        f"{counted(len(found.groups), 'group')} ({_mebibytes(sum(each.file_size for each in superfluous))})"
    )
    if found.kept:
        print(f"altered in places or extended, and so not to be moved: {counted(len(found.kept), 'more image')}")
    if found.gone:
        print(f"gone since they were loaded: {counted(found.gone, 'file')}; load with --prune to remove their items")
    for failure in found.unreadable[:_WORST]:
        print(f"compared by its bytes alone: {printable(failure.path)}: {failure.reason}")
    if len(found.unreadable) > _WORST:
        print(f"and {len(found.unreadable) - _WORST:,} more that cannot be read")
    if not found.groups:
        return
    rows = [
        [str(number), printable(each.path), f"{each.width} × {each.height}", f"{each.file_size:,}", _differing(each)]
        for number, group in enumerate(found.groups[:_WORST], start=1)
        for each in group[:_OF_GROUP]
    ]
    print_table(["group", "path", "pixels", "bytes", "beside the best"], rows, right={0, 2, 3})
    if len(found.groups) > _WORST:
        print(f"and {counted(len(found.groups) - _WORST, 'more group')}")
    print(f"all groups: {found.csv}")
    more = " and so on" if len(found.sheets) > 1 else ""
    print(f"contact sheets: {found.sheets[0]}{more}")


def _differing(each: Duplicate) -> str:
    return ", ".join(each.differences) or "the best"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def print_moved(moved: Moved) -> None:
    print(f"{counted(moved.moved, 'file')} moved to {moved.directory} ({_mebibytes(moved.bytes)})")
    if moved.kept:
        print(f"not moved: {counted(moved.kept, 'file')} altered in places or extended, which may show something else")
    for failure in moved.left:
        print(f"not moved: {printable(failure.path)}: {failure.reason}")
    if moved.others:
        names = ", ".join(moved.others)
        print(
            f"other collections of this tree still name what was moved, until `load --prune`, or copied anew: {names}"
        )


def print_duplicates_as_json(found: Duplicates, moved: Moved | None) -> None:
    print_json({**asdict(found), "moved": moved and asdict(moved)})


def print_fine_tuning(tuned: FineTuning) -> None:
    labels = f" of {counted(tuned.labels, 'label')}" if tuned.labels else ""
    print(
        f"{tuned.backbone}, {tuned.objective}: {counted(tuned.training, 'image')}{labels} to learn from, "
        f"{tuned.validation:,} for validation, {tuned.held_out:,} held out"
        + (f", {tuned.failed:,} failed" if tuned.failed else "")
        + (f", {tuned.left_out:,} left out, without a label or the same as another" if tuned.left_out else "")
    )
    epochs = len(tuned.losses.training)
    kept = f"the {tuned.losses.of} loss was lowest after epoch {tuned.losses.best}, which is kept"
    print(f"{counted(epochs, 'epoch')}; {kept}")
    for each in tuned.comparisons:
        print(f"\n{counted(each.queries, 'held-out image')}, searched for among the {each.among}")
        rows = [
            [change.metric, str(change.before), str(change.after), _signed(change.difference)]
            for change in each.changes
        ]
        print_table(["metric", "before (95 % interval)", "after", "difference"], rows, right=set())
        _print_highest(each.highest)
    print(f"\n{_verdict(tuned)}")
    print(f"weights: {tuned.weights}; load with them: lookalike load DIR --weights {tuned.weights}")
    print(f"who was trained on and who was held out: {tuned.split}")
    print(f"the loss of each epoch: {tuned.chart}")
    if tuned.failures:
        print(f"what failed and why: {tuned.failures}")


def _verdict(tuned: FineTuning) -> str:
    if not tuned.comparisons:
        return "Whether the training helped cannot be told without labels; load with it, and `evaluate --labels FILE`."
    where = f"of held-out images among the {tuned.comparisons[0].among}"
    if tuned.helped is None:
        return f"Whether the training helped cannot be told: the interval of the difference in mAP {where} holds 0."
    if tuned.helped:
        return f"The training helped: the mAP {where} is higher than before."
    return f"The training did not help: the mAP {where} is lower than before; keep the weights that you had."


def _signed(difference: Estimate) -> str:
    return f"{difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"


def print_fine_tuning_as_json(tuned: FineTuning) -> None:
    print_json(asdict(tuned))
