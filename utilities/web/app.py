"""The application that `lookalike serve` runs: the search page, the API, and its documentation."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from prometheus_fastapi_instrumentator import Instrumentator
from starlette.types import ASGIApp

from utilities.errors import LookalikeError
from utilities.faces import check_detector
from utilities.milvus_utilities import connect, count_items, ping
from utilities.settings import Settings
from utilities.videos import import_av
from utilities.web import files, items, problems, searches
from utilities.web.guard import DOCS_POLICY, OPEN, Guard, parse_origins
from utilities.web.models import (
    CollectionModel,
    Facets,
    Health,
    NewItem,
    NewItemForm,
    PictureAddress,
    PictureForm,
    Query,
    SearchForm,
)
from utilities.web.problems import Problem
from utilities.web.service import Service, Serving

logger = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
#: Bytes that a form adds to the file in it.
FORM_BYTES = 64 * 1024
_MAY_FAIL = problems.problems(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE)


def create_app(settings: Settings, *, collection: str | None = None, host: str = "127.0.0.1") -> ASGIApp:
    """The application.

    Args:
        settings: limits and places.
        collection: the only one that is served; None for all.
        host: the address that it is to listen at.

    Raises:
        InvalidArgument: `settings.cors_origins` names what is no origin.
    """
    largest = settings.upload_max_bytes + FORM_BYTES
    origins = parse_origins(settings.cors_origins)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = Service(settings, connect(settings=settings, must_exist=True), collection)
        app.state.service = service
        _warm_up(service)
        yield
        service.search.close()
        service.client.close()

    app = FastAPI(
        title="Lookalike",
        description="Reverse image search over your own files. Errors are problem details (RFC 9457).",
        version=importlib.metadata.version("lookalike"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        max_body_size=largest,
    )
    problems.install(app)
    _document(app)
    app.include_router(searches.router)
    app.include_router(files.router)
    app.include_router(items.router)
    _add_collections(app)
    _add_pages(app)
    figures = Instrumentator(excluded_handlers=[OPEN, "/metrics"], should_instrument_requests_inprogress=True)
    figures.instrument(app).expose(app, include_in_schema=False)
    # Around all of it, so that what FastAPI itself refuses, or fails at, is said and sent no less carefully.
    guarded = Guard(app, settings.api_token, origins, largest, host=host)
    if not origins:
        return guarded
    return CORSMiddleware(
        guarded,
        allow_origins=origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type"],
    )


def _warm_up(service: Service) -> None:
    """Load the network that is asked for first, so that nobody waits for it."""
    for name in service.names()[:1]:
        try:
            info = service.collection(name)
            service.search.embedder(info)
            if info.of_faces:
                check_detector()
            if info.sampling:
                import_av()
        except LookalikeError as error:  # Other collections may do; this one says it at each search.
            logger.warning("%s cannot be searched with pictures: %s", name, error)


def _document(app: FastAPI) -> None:
    """Add what endpoints refer to that read their requests, and make their errors, themselves."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            schemas = described()["components"]["schemas"]
            for model in (Problem, PictureAddress, PictureForm, Query, SearchForm, NewItem, NewItemForm):
                schemas[model.__name__] = model.model_json_schema()
        return described()

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it


def _add_collections(app: FastAPI) -> None:
    def collections(service: Serving) -> list[CollectionModel]:
        """The collections, sorted by name."""
        return [collection(name, service) for name in service.names()]

    def collection(name: str, service: Serving) -> CollectionModel:
        """A collection and what it was made by."""
        return CollectionModel.of(service.collection(name), count_items(service.client, name))

    async def facets(name: str, service: Serving) -> Facets:
        """The labels, folders, cameras and times of a collection, counted in the last minute."""
        info = await run_sync(service.collection, name)
        # Whoever comes while it is counted holds no thread, and finds it counted.
        return await run_sync(service.facets, info.name, limiter=service.counting)

    async def health(service: Serving) -> Health:
        """Whether the server and its Milvus answer."""
        await run_sync(ping, service.client, limiter=service.supervising)
        return Health()

    tagged: dict[str, Any] = {"tags": ["collections"], "responses": _MAY_FAIL}
    app.get("/collections", **tagged)(collections)
    app.get("/collections/{name}", **tagged)(collection)
    app.get("/collections/{name}/facets", **tagged)(facets)
    app.get(OPEN, tags=["server"], responses=problems.problems(HTTPStatus.SERVICE_UNAVAILABLE))(health)


def _add_pages(app: FastAPI) -> None:
    """The page, the documentation, and what both are made of; all of it lies on this machine."""
    for name, package, folder in (
        ("bootstrap", "flask_bootstrap", "static/bootstrap5"),
        ("swagger", "fastapi_offline", "static"),
    ):
        app.mount(f"/static/{name}", StaticFiles(directory=_folder_of(package) / folder), name=name)
    app.mount("/static", StaticFiles(directory=PAGE), name="static")

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/docs", include_in_schema=False)
    def docs() -> FileResponse:
        return FileResponse(PAGE / "docs.html", headers={"Content-Security-Policy": DOCS_POLICY})


def _folder_of(package: str) -> Path:
    """Where a package lies that is wanted for the files it carries, and never imported."""
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent
