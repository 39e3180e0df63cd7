"""Every error that Lookalike raises on purpose.

```
LookalikeError                 exit status 1: the work failed
├── InvalidArgument            exit status 2: the call was wrong (also a ValueError)
│   ├── CollectionNotFound
│   └── EmbedderMismatch       vectors of two embedders would meet
├── ImageError                 one image; a load records it and goes on
│   ├── UnreadableImage
│   ├── ImageTooLarge
│   ├── NoFace                 a search for a face in an image that shows none
│   ├── DownloadFailed
│   └── UnreadableVideo
├── NoImagesFound
├── WeightsUnavailable
├── ExportFailed
├── MissingPackage
├── IdMapError
├── CollectionBusy             another process changes the collection, or writes the weights
└── DatabaseError
    ├── DatabaseUnreachable
    ├── DatabaseNotReady
    └── DatabaseLocked
Stopped                        exit status 130 or 143: Ctrl-C or SIGTERM; no error, and not caught as one
```

A message is one sentence, or two: what was wrong and where, then what to do. Only `pipelines.cli` turns an error into
output and an exit status; everything else lets it pass.
"""


class LookalikeError(Exception):
    """Root of the tree: a foreseeable failure that deserves a sentence, not a traceback."""

    exit_status = 1


class InvalidArgument(LookalikeError, ValueError):
    """An argument that cannot work, found before any work was done."""

    exit_status = 2


class CollectionNotFound(InvalidArgument):
    """A collection that the database does not hold."""


class EmbedderMismatch(InvalidArgument):
    """A collection and an embedder, or an embedder and its weights, that do not belong together."""


class ImageError(LookalikeError):
    """One image that cannot be used."""


class UnreadableImage(ImageError):
    """Bytes that are no image, a damaged image, or a file that may not be read."""


class ImageTooLarge(ImageError):
    """More pixels or more bytes than the limit allows."""


class NoFace(ImageError):
    """An image in which a face is needed and none was found."""


class DownloadFailed(ImageError):
    """An address that did not answer with an image in time."""


class UnreadableVideo(ImageError):
    """A file without a video that can be decoded."""


class NoImagesFound(LookalikeError):
    """A directory tree without a single image."""


class WeightsUnavailable(LookalikeError):
    """Weights that cannot be downloaded, read, or fitted to the backbone."""


class ExportFailed(LookalikeError):
    """A network that could not be written for the runtime that is to run it."""


class MissingPackage(LookalikeError):
    """An optional package that is not installed; the message says how to install it."""


class IdMapError(LookalikeError):
    """An id map that is not what was written."""


class CollectionBusy(LookalikeError):
    """Another process is loading into the collection, or deleting from it, or writes the same weights."""


class DatabaseError(LookalikeError):
    """Milvus answered with an error."""


class DatabaseUnreachable(DatabaseError):
    """No Milvus at the address, or none any more."""


class DatabaseNotReady(DatabaseError):
    """Milvus is there, and wants to be asked again later: it is overloaded, or still starting."""


class DatabaseLocked(DatabaseError):
    """The embedded database is open in another process."""


class Stopped(BaseException):
    """Ctrl-C or SIGTERM ended the work. Nothing failed, so that nothing which expects failures may catch it.

    Args:
        message: a sentence.
        signal_number: what was received.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        #: As a shell reports a process that a signal has ended.
        self.exit_status = 128 + signal_number
