"""What the command prints: tables for people, JSON for machines, both on standard output."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from utilities.items import as_utf8, printable

if TYPE_CHECKING:
    from pipelines.load import LoadSummary
    from pipelines.manage import CollectionState
    from pipelines.query import QueryResult
    from utilities.collection_info import CollectionInfo
    from utilities.fingerprint import Fingerprint
    from utilities.similar_images import Match


def print_summary(summary: LoadSummary) -> None:
    left = f", {summary.left:,} left" if summary.left else ""
    of_faces = summary.item_is == "face"
    without_faces = f"{summary.without_faces:,} without a face, " if of_faces else ""
    thing = "item" if summary.item_is == "image" else summary.item_is
    print(
        f"{summary.found:,} found: {summary.inserted:,} inserted, {summary.unchanged:,} unchanged, {without_faces}"
        f"{summary.failed:,} failed{left}; {summary.collection} holds {counted(summary.items, thing)}"
    )
    if summary.vanished:
        fate = "were removed" if summary.pruned else "still answer queries; load with --prune to remove them"
        print(f"gone since an earlier load: the files of {counted(summary.vanished, thing)}, which {fate}")
    print(f"ids and paths: {summary.id_map}")
    if summary.failures:
        print(f"what failed and why: {summary.failures}")
    if summary.faceless:
        print(f"{'videos' if summary.what == 'videos' else 'images'} without a face: {summary.faceless}")
    if summary.attributes:
        joined = summary.attributes
        kind = "video" if summary.what == "videos" else "image"
        print(
            f"attributes: new for {counted(joined.items, summary.item_is)}; "
            f"{counted(joined.rows_without_file, 'row')} without {'a' if kind == 'video' else 'an'} {kind}, "
            f"{counted(joined.files_without_row, kind)} without a row"
            f"{f'; {counted(joined.left, summary.item_is)} left' if joined.left else ''}"
        )
    if summary.damaged:
        print(f"damaged: {counted(summary.damaged, 'video')}, of which what could be decoded is taken")


def print_summary_as_json(summary: LoadSummary) -> None:
    print_json(asdict(summary))


def print_state(state: CollectionState) -> None:
    said = {**state_as_json(state), "differences": _differences(state)}
    for number, network in enumerate(said.pop("networks", []), start=1):
        said |= {f"{name} {number}": value for name, value in network.items()}
    for name, value in said.items():
        print(f"{name.replace('_', ' '):<21} {'-' if value is None else value}")


def _differences(state: CollectionState) -> str:
    if state.differences is None:
        return f"the id map is not as it was written; `lookalike export {state.info.name}` writes it anew"
    if state.differences:
        return f"{state.differences}; the next load mends the id map"
    return "none between the id map and Milvus"


def print_result(result: QueryResult) -> None:
    face = f", face {result.face} of {result.faces}" if result.face else ""
    by = f", by {'fused rankings' if result.together == 'ranks' else 'a combined vector'}" if result.together else ""
    print(f"\nquery: {result.called}{face}{by}")
    if not result.matches:
        print("no match")
        return
    first = result.matches[0]
    if result.expand:
        print(f"{first.measure}: to the query, moved towards its {counted(result.expand, 'nearest neighbour')}")
    if result.rerank:
        print(f"order: re-ranked by {result.rerank}, so that {first.measure} need not fall")
    if first.spans:
        extra, told = ["where"], [[_spans(match)] for match in result.matches]
    elif result.face is not None:
        extra, told = ["face"], [[match.part] for match in result.matches]
    else:
        extra, told = [], [[] for _ in result.matches]
    rows = [
        [str(match.rank), f"{match.score:.4f}", *more, _shown(match)]
        for match, more in zip(result.matches, told, strict=True)
    ]
    print_table(["rank", first.measure, *extra, "path"], rows, right={0, 1})
    if result.plot:
        print(f"plot: {result.plot}")


def _shown(match: Match) -> str:
    return printable(match.path) + ("" if match.file.exists() else "  (the file is gone)")


#: Stretches of each video that are printed.
_SPANS = 3


def _spans(match: Match) -> str:
    more = len(match.spans) - _SPANS
    return ", ".join(map(str, match.spans[:_SPANS])) + (f" and {more} more" if more > 0 else "")


def counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def print_table(header: list[str], rows: list[list[str]], right: set[int]) -> None:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())


def result_as_json(result: QueryResult) -> dict[str, Any]:
    matches = [_said(asdict(match)) for match in result.matches]
    faces = {"face": result.face, "faces": result.faces} if result.face else {}
    queries, unlike = ([as_utf8(each) for each in some] for some in (result.queries, result.unlike))
    if result.together:
        return {"query": queries, "not": unlike, "together": result.together, "matches": matches}
    return {"query": queries[0], **faces, "matches": matches}


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    """What there is to say of a match, and of its frames."""
    said = {key: value for key, value in fields.items() if value not in (None, "", (), {})}
    if "frames" in said:
        said["frames"] = [_said(frame) for frame in said["frames"]]
    return said


def state_as_json(state: CollectionState) -> dict[str, Any]:
    return {
        **info_as_json(state.info),
        "items": state.items,
        "index": state.index,
        "id_map": state.id_map,
        "differences": None if state.differences is None else asdict(state.differences),
    }


def info_as_json(info: CollectionInfo) -> dict[str, Any]:
    return {
        "collection": info.name,
        "root": info.root,
        "what": info.what,
        "item_is": info.item_is,
        "frames": str(info.sampling) if info.sampling else None,
        "metric": info.metric,
        **({"augmented": info.augmented, "augmented_of": info.augmented_of} if info.augmented else {}),
        "dimension": info.dimension,
        **({"networks": [_network(each) for each in info.fingerprints]} if info.others else _network(info.fingerprint)),
    }


def _network(fingerprint: Fingerprint) -> dict[str, Any]:
    return {
        "backbone": fingerprint.backbone,
        "weights": fingerprint.weights,
        "weights_digest": fingerprint.weights_digest,
        "pooling": fingerprint.pooling,
        "views": fingerprint.views,
        "keep_length": fingerprint.keep_length,
        "pca_digest": fingerprint.pca_digest or None,
        "quantization_digest": fingerprint.quantization_digest or None,
        "preprocessing": fingerprint.preprocessing,
    }


def print_json(value: Any) -> None:
    print(json.dumps(value, default=str, ensure_ascii=False))
