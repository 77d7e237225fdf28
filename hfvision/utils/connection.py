"""Whether an error is that of a missing connection to the Hub, however it is wrapped, and what to say then."""

from collections.abc import Iterator

from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled


def is_lost_connection(error: BaseException | None) -> bool:
    """Whether an error is one of transport; huggingface_hub 1 sends by httpx, 2 by httpx2, with classes alike."""
    alike = any(kind.__name__ == "TransportError" for kind in type(error).__mro__)
    # What a client says that huggingface_hub closed after such an error.
    closed = isinstance(error, RuntimeError) and "client has been closed" in str(error)
    return alike or closed or isinstance(error, ConnectionError | TimeoutError | OfflineModeIsEnabled)


def no_connection(name: str, error: BaseException) -> ConnectionError | None:
    """The error to raise where `name` was not fetched for want of a connection; None where it was something else."""
    if not any(is_lost_connection(e) or isinstance(e, LocalEntryNotFoundError) for e in chain_of(error)):
        return None
    return ConnectionError(
        f"{name}: not on this machine, and there is no connection to {constants.ENDPOINT}. Without one, folders, the "
        "checkpoints and sample sets of the package, and what was downloaded before can be used."
    )


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that it was raised from, or while handling."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
