"""Again, later and later: what a network or an object store answers once is not yet the truth."""

from __future__ import annotations

import errno
import importlib
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_exponential_jitter

T = TypeVar("T")
# 0.5 + 1 + 2 + 4 + 8 + 16 s, each with up to 1 s on top: a throttled store has recovered by then,
# and a job of hours has lost half a minute.
_ATTEMPTS, _FIRST, _LONGEST = 7, 0.5, 30.0
# Errors of the libraries below fsspec that are no OSError. Named, since only what is installed can
# be imported.
_CLASSES = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("aiohttp", "ClientError"),
    ("gcsfs.retry", "HttpError"),
)
# Trying again does not help where a path is wrong, forbidden, or a disk full.
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_LASTING_NUMBERS = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.ENAMETOOLONG}
# Answers of S3 that stay as they are.
_LASTING_CODES = {"403", "404", "AccessDenied", "InvalidAccessKeyId", "NoSuchBucket", "NoSuchKey"}


class TransientError(OSError):
    """What was read is not what was written; it may be at the next attempt."""


@lru_cache(maxsize=1)
def store_errors() -> tuple[type[Exception], ...]:
    """The classes of what a disk, a network or an object store raises."""
    found: list[type[Exception]] = [OSError]
    for module, name in _CLASSES:
        try:
            found.append(getattr(importlib.import_module(module), name))
        except ImportError:
            continue
    return tuple(found)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if not isinstance(error, store_errors()) or isinstance(error, _LASTING):
        return False
    if isinstance(error, OSError) and error.errno in _LASTING_NUMBERS:
        return False
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return str(code) not in _LASTING_CODES


def again(what: Callable[[], T]) -> T:
    """The result of ``what``, which is called again, ever later, while its errors may pass.

    Raises:
        Exception: the last attempt's own, or one that cannot pass.
    """
    attempt = retry(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential_jitter(multiplier=_FIRST, max=_LONGEST),
        reraise=True,
    )
    return attempt(what)()
