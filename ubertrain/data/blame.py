"""Where an error in the data came from: each floor of the reading adds its own word to the message."""

from collections.abc import Iterator
from contextlib import contextmanager

from ubertrain.errors import DataError


@contextmanager
def blame(subject: object) -> Iterator[None]:
    """Put `subject` (a file, a sample, a data set) in front of the message of a `DataError` that is raised inside."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{subject}: {error}") from error
