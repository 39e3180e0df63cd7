"""Open Milvus, embedded or a server, and turn its failures into errors with a sentence."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path

import grpc

from utilities.errors import (
    CollectionNotFound,
    DatabaseError,
    DatabaseLocked,
    DatabaseNotReady,
    DatabaseUnreachable,
    InvalidArgument,
)
from utilities.milvus_client import ConnectionConfigException, ErrorCode, MilvusClient, MilvusException
from utilities.settings import Settings

#: Bytes of one message. A server takes 64 MiB; an eighth of it keeps the server's and our memory small.
MESSAGE_BYTES = 8 * 1024 * 1024
#: Rows that one page of an iteration holds. A server allows 16,384.
PAGE_ROWS = 8_192
#: How often pymilvus itself tries again. Its default would try for minutes without a word.
RETRIES = 3
#: What says that a server is away: gRPC's own code, and pymilvus's for a connection that fails.
AWAY = {grpc.StatusCode.UNAVAILABLE, 2}
#: What says that it is there, but not quite: the codes of Milvus, from its `merr` package, for too many requests (8), a
#: node that lags behind (11), a collection that is not yet in use again (101, 103, 106), and channels and nodes without
#: a home (500 to 503, 901 to 905). A service that starts has the code of every unexpected error, and is known by words.
NOT_READY = {ErrorCode.RATE_LIMIT, 11, 101, 103, 106, *range(500, 504), *range(901, 906)}

# Milvus Lite turns what it has not flushed yet into Python's own numbers when it does, eight times its size. It reads
# this when it is imported; its own default is 128 MiB, and no faster. Of 2,048 dimensions 48 MiB are 6,000 items, and
# FAISS wants 5,000 of them to cluster.
os.environ.setdefault("MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES", str(48 * 1024 * 1024))

#: Where the embedded database of each connection lies.
_embedded_in: weakref.WeakKeyDictionary[MilvusClient, Path] = weakref.WeakKeyDictionary()

# These log every failed call with its traceback; here the same failure becomes an error with a sentence.
for _name in ("pymilvus", "milvus_lite", "grpc"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


def connect(
    uri: str | None = None,
    token: str | None = None,
    settings: Settings | None = None,
    *,
    must_exist: bool = False,
) -> MilvusClient:
    """Open Milvus: the embedded database by default, a server or a cluster by its address.

    Args:
        uri: `http://host:19530`, or the path of a `.db` file; by default `MILVUS_URI`, else the embedded database under
            `LOOKALIKE_HOME`.
        token: `user:password` or an API key; by default `MILVUS_TOKEN`.
        settings: where `uri` and `token` come from when they are not given; from the environment by default.
        must_exist: whether to refuse to make a new embedded database, where only an old one can answer.

    Raises:
        CollectionNotFound: no embedded database there, although it must exist.
        DatabaseUnreachable: no server answers there.
        DatabaseLocked: another process holds the embedded database.
        DatabaseError: the server refuses, or the embedded database cannot be opened.
    """
    settings = settings or Settings.load(milvus_uri=uri, milvus_token=token)
    _bypass_proxies_for_this_machine()
    uri = uri or settings.database_uri
    token = token or settings.milvus_token or ""
    if is_server(uri):
        return _connect_to_server(uri, token)
    if not uri.endswith(".db") or "://" in uri:
        raise InvalidArgument(f"MILVUS_URI is {uri!r}; give http://HOST:PORT or the path of a .db file.")
    path = Path(uri).absolute()
    if path.parent.exists() and not path.parent.is_dir():
        raise DatabaseError(f"The embedded database {path} cannot be opened: {path.parent} is a file, not a folder.")
    if must_exist and not path.exists():
        raise CollectionNotFound(
            f"There is no collection in {path} yet; `lookalike load DIR` makes the first, and LOOKALIKE_HOME or --home "
            "leads to those made elsewhere."
        )
    return _open_embedded(path)


def ping(client: MilvusClient) -> None:
    """Ask whether Milvus is there.

    Raises:
        DatabaseError: it does not answer.
    """
    with milvus_errors("answer"):
        client.list_collections(timeout=5)


def is_server(uri: str) -> bool:
    """Whether an address is a server's, rather than the path of an embedded database."""
    return uri.startswith(("http://", "https://", "tcp://", "unix:"))


def _bypass_proxies_for_this_machine() -> None:
    """Keep gRPC, by which even the embedded database is reached, from asking a company's proxy for 127.0.0.1."""
    others = os.environ.get("no_grpc_proxy") or os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if "127.0.0.1" not in others:
        os.environ["no_grpc_proxy"] = ",".join(filter(None, [others, "127.0.0.1", "localhost"]))


def _connect_to_server(uri: str, token: str) -> MilvusClient:
    try:
        return MilvusClient(uri, token=token, timeout=10)
    except ValueError as error:
        raise InvalidArgument(f"MILVUS_URI is {uri!r}, which is no address: {error}.") from error
    except MilvusException as error:
        if "auth" in str(error).lower():
            raise DatabaseError(f"The Milvus server at {uri} refused the login; set MILVUS_TOKEN.") from error
        raise DatabaseUnreachable(
            f"No Milvus server answers at {uri}; start one with `docker compose up -d`, or unset MILVUS_URI to use "
            "the embedded database."
        ) from error


def _open_embedded(path: Path) -> MilvusClient:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # pymilvus asks every ten seconds whether the other side is alive; the embedded database, in this very process,
        # takes that for an attack and hangs up, which gRPC then reports on standard error.
        client = MilvusClient(str(path), grpc_options={"grpc.keepalive_time_ms": 2**31 - 1})
        _embedded_in[client] = path
        return client
    except OSError as error:
        raise DatabaseError(f"The embedded database {path} cannot be opened: {error.strerror}.") from error
    except ConnectionConfigException as error:
        raise _why_not_embedded(path) from error
    except MilvusException as error:
        raise DatabaseError(f"The embedded database {path} did not start: {error.message}.") from error


def remove_debris(client: MilvusClient, collection: str) -> None:
    """Remove what a process that died, or a full disk, has left of making or dropping a collection.

    Milvus Lite says that there is no such collection, since it has no schema, and does not make it, since it has a
    folder. A server has nothing of the kind.
    """
    if client in _embedded_in:
        folder = _embedded_in[client] / "collections" / collection
        if folder.is_dir() and not (folder / "schema.json").exists():
            shutil.rmtree(folder)


def _why_not_embedded(path: Path) -> DatabaseError:
    """The reason, which pymilvus only logs, found by opening the database without it."""
    from milvus_lite.db import MilvusLite
    from milvus_lite.exceptions import DataDirLockedError

    try:
        MilvusLite(str(path)).close()
    except DataDirLockedError:
        return DatabaseLocked(
            f"The embedded database {path} is open in another process; end that process (a notebook, a load, "
            "another query, `lookalike serve`), or run a Milvus server with `docker compose up -d`, which many "
            "processes can share."
        )
    except PermissionError:
        return DatabaseError(
            f"The embedded database {path} may not be written by this user, which it must be, even for a query; "
            "take another --home, or have the folder's rights changed."
        )
    except Exception as error:
        return DatabaseError(f"The embedded database {path} cannot be opened: {error}.")
    return DatabaseError(f"The embedded database {path} could not be opened; try again.")


@contextlib.contextmanager
def milvus_errors(doing: str) -> Iterator[None]:
    """Turn any failure of Milvus inside the block into a `DatabaseError` that begins with what was being done."""
    try:
        yield
    except MilvusException as error:
        kind = DatabaseError
        if error.code in AWAY:
            kind = DatabaseUnreachable
        elif error.code in NOT_READY or error.retriable or "not ready" in str(error.message):
            kind = DatabaseNotReady
        raise kind(f"Milvus could not {doing}: {_sentence(error.message) or type(error).__name__}.") from error
    except grpc.RpcError as error:  # of the kinds that pymilvus lets through, such as a time limit
        details = error.details() if isinstance(error, grpc.Call) else ""
        raise DatabaseError(f"Milvus could not {doing}: {_sentence(details) or type(error).__name__}.") from error


def _sentence(message: str | None) -> str:
    return " ".join((message or "").split()).rstrip(".")
