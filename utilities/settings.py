"""What a deployment may set: flags over environment over defaults, in one frozen object."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utilities.errors import InvalidArgument

#: Environment variable of each setting.
ENVIRONMENT_VARIABLES = {
    "home": "LOOKALIKE_HOME",
    "milvus_uri": "MILVUS_URI",
    "milvus_token": "MILVUS_TOKEN",
    "max_image_pixels": "LOOKALIKE_MAX_IMAGE_PIXELS",
    "download_timeout_seconds": "LOOKALIKE_DOWNLOAD_TIMEOUT",
    "download_max_bytes": "LOOKALIKE_DOWNLOAD_MAX_BYTES",
    "allow_private_urls": "LOOKALIKE_ALLOW_PRIVATE_URLS",
    "server_patience_seconds": "LOOKALIKE_SERVER_PATIENCE",
    "api_token": "LOOKALIKE_API_TOKEN",
    "upload_max_bytes": "LOOKALIKE_UPLOAD_MAX_BYTES",
    "cors_origins": "LOOKALIKE_CORS_ORIGINS",
}


@dataclass(frozen=True)
class Settings:
    """Where data lies and which limits hold."""

    #: Directory of the embedded database, the id maps, the failure lists and the exported networks.
    home: Path = Path("lookalike-data")
    #: Address of a Milvus server, path of a `.db` file, or None for the embedded database under `home`.
    milvus_uri: str | None = None
    #: `user:password` or an API key, where the server asks for one.
    milvus_token: str | None = None
    #: An image of more pixels is refused before it is decoded. The default, Pillow's own limit, is 89 megapixels.
    max_image_pixels: int = 89_478_485
    #: Time that a download may take in all, in seconds.
    download_timeout_seconds: float = 20.0
    #: A larger download is refused. The default is 64 MiB.
    download_max_bytes: int = 64 * 1024 * 1024
    #: Whether a URL may lead to this machine or its private network.
    allow_private_urls: bool = False
    #: Time that a load waits for a server that has gone away, in seconds.
    server_patience_seconds: float = 300.0
    #: What `lookalike serve` asks of every request, and without which nobody may add or remove items.
    api_token: str | None = None
    #: A larger upload is refused. The default is 32 MiB.
    upload_max_bytes: int = 32 * 1024 * 1024
    #: Origins whose pages may use the API, such as `https://shop.example`, separated by commas.
    cors_origins: str = ""

    @classmethod
    def load(cls, environment: Mapping[str, str] | None = None, **flags: Any) -> Settings:
        """Settings from flags, else from the environment, else from the defaults.

        Args:
            environment: variables to read; `os.environ` by default. An empty variable counts as unset.
            **flags: fields by name; None means not given.

        Raises:
            InvalidArgument: a variable that should be a positive number, or yes or no, is not.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        for name, variable in ENVIRONMENT_VARIABLES.items():
            if flags.get(name) is not None:
                values[name] = flags[name]
            elif text := environment.get(variable):
                values[name] = _parse(name, variable, text)
        return cls(**values)

    def environment(self) -> dict[str, str]:
        """The variables from which another process loads the same settings."""
        values = {variable: getattr(self, name) for name, variable in ENVIRONMENT_VARIABLES.items()}
        return {
            variable: "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            for variable, value in values.items()
        }

    @property
    def database_uri(self) -> str:
        """The server's address, or the path of the embedded database's file."""
        return self.milvus_uri or str(self.home / "milvus.db")

    @property
    def database(self) -> str:
        """Where the database is, as it is shown: an address, or an absolute path."""
        return self.database_uri if "://" in self.database_uri else str(Path(self.database_uri).absolute())

    @property
    def networks(self) -> Path:
        """Directory of the exported networks."""
        return self.home / "networks"

    def id_map_path(self, collection: str) -> Path:
        """The CSV that maps a collection's ids to paths."""
        return self.home / f"{collection}.csv"

    def failures_path(self, collection: str) -> Path:
        """The CSV that lists what the last load of a collection could not read."""
        return self.home / f"{collection}.failures.csv"

    def without_faces_path(self, collection: str) -> Path:
        """The CSV that lists the images in which no face was found, in the form of an id map."""
        return self.home / f"{collection}.without_faces.csv"

    def lock_path(self, collection: str) -> Path:
        """The file that is locked while a process changes a collection."""
        return self.home / f"{collection}.lock"


def _parse(name: str, variable: str, text: str) -> Any:
    kind = {field.name: field.type for field in dataclasses.fields(Settings)}[name]
    if kind == "Path":
        return Path(text)
    if kind == "bool":
        if text.lower() not in ("1", "0", "true", "false", "yes", "no"):
            raise InvalidArgument(f"{variable} is {text!r}; set it to yes or no.")
        return text.lower() in ("1", "true", "yes")
    if kind not in ("int", "float"):
        return text
    try:
        number = int(text) if kind == "int" else float(text)
    except ValueError:
        number = 0
    if not 0 < number < math.inf:
        raise InvalidArgument(f"{variable} is {text!r}; set it to a positive number.")
    return number
