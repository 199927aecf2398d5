"""Everything that can go wrong in words a person can act on.

Each message is a sentence: the value, the rule it broke, what to do next. `InputError` means that what was
asked for cannot be done as asked (exit code 2); the others mean that something failed (exit code 1).
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager


class PrismError(Exception):
    """Base of all errors that PRISM raises on purpose."""


class InputError(PrismError):
    """A value that a person gave breaks a rule; nothing was changed."""


class StoreError(PrismError):
    """The store cannot be read or written: full or read-only disk, missing rights, damaged files."""


class NoDataError(PrismError):
    """What was asked for is not in the store yet."""


class SourceError(PrismError):
    """A source of prices did not answer well enough to go on; what it gave is kept."""


class ApprovalError(PrismError):
    """What is to be published needs a person's answer, and nobody can be asked here; nothing was recorded."""


class ServerError(PrismError):
    """Prefect's server does not answer; nothing was run."""


class LeakError(PrismError):
    """A past decision comes out differently with another future: something reads what was not known yet."""


_DENIED, _NO_BUCKET, _AWAY = "denied", "no bucket", "away"  # of object storage, which has no numbers for it
_CAUSES = {
    _DENIED: ("the object storage refuses it", "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may do"),
    _NO_BUCKET: ("there is no such bucket", "make it, or correct --store s3://BUCKET/NAME and AWS_ENDPOINT_URL"),
    _AWAY: ("the object storage does not answer", "check AWS_ENDPOINT_URL and the network, then run it again"),
    errno.ENOSPC: ("the disk is full", "free space and run the same command again: nothing is half-written"),
    errno.EROFS: ("the file system is read-only", "mount it writable, or give another --store"),
    errno.EACCES: ("the permission is denied", "check the owner and rights of the folder, or give another --store"),
    errno.EDQUOT: ("the quota is used up", "free space and run the same command again: nothing is half-written"),
    errno.EFBIG: ("the file is larger than is allowed", "raise the limit (ulimit -f) and run the same command again"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n) and run the same command again"),
    errno.EIO: ("the disk fails (input/output error)", "look at the disk, then run it again, or restore a backup"),
    errno.EPERM: ("the file system refuses it", "use a file system with hard links, or give another --store"),
}
_TEXTS = {
    "nosuchbucket": _NO_BUCKET,
    "no_such_bucket": _NO_BUCKET,
    "accessdenied": _DENIED,
    "access_denied": _DENIED,
    "invalidaccesskeyid": _DENIED,
    "signaturedoesnotmatch": _DENIED,
    "403 forbidden": _DENIED,
    "error sending request": _AWAY,
    "network_connection": _AWAY,
    "timed out": _AWAY,
    "internalerror": _AWAY,
    "slowdown": _AWAY,
    "server error": _AWAY,
    "no space left": errno.ENOSPC,
    "read-only file system": errno.EROFS,
    "readonlyfilesystem": errno.EROFS,
    "permission denied": errno.EACCES,
    "permissiondenied": errno.EACCES,
    "input/output error": errno.EIO,
    "fsync failed": errno.EIO,  # DuckDB's words
}
_NUMBER = re.compile(r"os error (\d+)")  # as Rust's libraries say it
_ARROW = re.compile(r"\s*(?:\x1b\[\d+m)?↳(?:\x1b\[0m)?\s*")  # between an error and its cause, as delta-rs says it


@contextmanager
def explained(action: str, *damage: type[Exception]) -> Iterator[None]:
    """Turn what the operating system, delta-rs or object storage raise during `action` into one StoreError sentence.

    `damage` are further errors that only damaged files cause here.
    """
    try:
        yield
    except PrismError:
        raise
    except Exception as error:
        code = getattr(error, "errno", None) or _code_of(str(error).lower())
        if code is None and not isinstance(error, (OSError, *damage)):
            raise
        # what a storage says of refused keys may hold them
        raise _explanation(action, error, code) from (None if code == _DENIED else error)


def _code_of(said: str) -> int | str | None:
    number = _NUMBER.search(said)
    return next((code for text, code in _TEXTS.items() if text in said), int(number[1]) if number else None)


def _explanation(action: str, error: Exception, code: int | str | None) -> StoreError:
    said = (_ARROW.sub(": ", str(error)).strip() or type(error).__name__).splitlines()[0].rstrip()
    file = getattr(error, "filename2", None) or getattr(error, "filename", None)  # of a copy the file that is written
    place = f" ({file})" if code in _CAUSES and file else ""  # other causes are said with it
    cause, remedy = _CAUSES.get(code or 0, (said, "run it again; if it stays, restore the store from a backup"))
    return StoreError(f"{action}: {cause}{place}; {remedy}")
