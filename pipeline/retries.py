"""Again, later and later: what a network or an object store answers once is not yet the truth."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterable
from typing import TypeVar

from tenacity import (
    retry,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
    wait_random,
)

from schemas.reasons import UsageError

T = TypeVar("T")
# 0.5 + 1 + 2 + 4 + 8 + 16 s, each with up to 1 s on top: a throttled store has recovered by then,
# and a job of hours has lost half a minute.
_WAIT = wait_exponential(multiplier=0.5, max=30) + wait_random(0, 1)
# The libraries below repeat each request too (s3fs 5 times what botocore repeats 5 times), so one
# attempt of ours may last a minute. None begins later than this many seconds after the first.
_STOP = stop_after_attempt(7) | stop_after_delay(120)
# Errors of the libraries below fsspec that are no OSError. Those that may pass: cut connections,
# answers that are cut, garbled or fail their checksum.
_PASSING_CLASSES = (
    ("botocore.exceptions", "ConnectionError"),
    ("botocore.exceptions", "HTTPClientError"),
    ("botocore.exceptions", "ChecksumError"),
    ("botocore.exceptions", "FlexibleChecksumError"),
    ("botocore.exceptions", "IncompleteReadError"),
    ("botocore.parsers", "ResponseParserError"),
    ("aiohttp", "ClientError"),
    ("gcsfs.retry", "ChecksumError"),
    ("google.auth.exceptions", "TransportError"),
)
# Those whose answer says whether they pass, and those that do not: no credentials, a wrong name.
_OTHER_CLASSES = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("gcsfs.retry", "NonRetryableError"),
    ("google.api_core.exceptions", "GoogleAPICallError"),
    ("google.auth.exceptions", "GoogleAuthError"),
)
# Trying again does not help where a path is wrong, forbidden, or a disk full.
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_LASTING_NUMBERS = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.ENAMETOOLONG}
# Answers with a 4xx status that stand for the network or the moment. NoSuchUpload: the upload was
# completed, and the answer was lost.
_PASSING_STATUS = {408, 409, 425, 429}
_PASSING_CODES = {
    "BadDigest",
    "IncompleteBody",
    "NoSuchUpload",
    "RequestTimeout",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}


class TransientError(OSError):
    """What was read is not what was written; it may be at the next attempt."""


def store_errors() -> tuple[type[Exception], ...]:
    """The classes of what a disk, a network or an object store raises."""
    return (OSError, *_loaded(_PASSING_CLASSES), *_loaded(_OTHER_CLASSES))


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if not isinstance(error, store_errors()):
        return False
    status, code = _answer(error)
    if code in _PASSING_CODES or status in _PASSING_STATUS:
        return True
    if status is not None:
        return status >= 500
    if not isinstance(error, OSError):
        return isinstance(error, _loaded(_PASSING_CLASSES))
    return not isinstance(error, _LASTING) and error.errno not in _LASTING_NUMBERS


def again(what: Callable[[], T]) -> T:
    """The result of ``what``, which is called again, ever later, while its errors may pass.

    Raises:
        Exception: the last attempt's own, or one that cannot pass.
    """
    attempt = retry(retry=retry_if_exception(is_transient), stop=_STOP, wait=_WAIT, reraise=True)
    return attempt(what)()


def read_input(what: Callable[[], T], where: str) -> T:
    """`again`, for what a build reads.

    Args:
        where: the data, for the message.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return again(what)
    except store_errors() as error:
        raise UsageError(f"cannot read {where}: {said(error)}") from error


def said(error: Exception) -> str:
    """What an error of a disk or store says, in words."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _answer(error: BaseException) -> tuple[int | None, str]:
    """HTTP status and error code of the answer behind an error, as far as it has them.

    s3fs raises OSErrors made from botocore's ClientError, which stays their cause; gcsfs' own
    error has the status.
    """
    for one in (error, error.__cause__):
        response = getattr(one, "response", None)
        if isinstance(response, dict):  # botocore.exceptions.ClientError
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return status, str(response.get("Error", {}).get("Code", ""))
    code = str(getattr(error, "code", None))
    return (int(code), "") if code.isdecimal() else (None, "")


def _loaded(names: Iterable[tuple[str, str]]) -> tuple[type[Exception], ...]:
    """Classes of the modules that are imported; of another, no error can come."""
    found = ((sys.modules.get(module), name) for module, name in names)
    return tuple(getattr(module, name) for module, name in found if hasattr(module, name))
