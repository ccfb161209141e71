"""Where the stages of a shard run: here, one after the other, or on workers of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Inline(Executor):
    """Runs what it is given at once, in the thread that gives it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is done; it holds the exception that ``fn`` raised, like any other."""
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 -- handed to whoever asks for the result
            done.set_exception(error)
        return done


@dataclass(frozen=True)
class Stages:
    """Who reads episodes and who encodes samples, while this process reconstructs.

    Attributes:
        read, encode: what the two stages are submitted to.
        ahead: episodes that are read, and that are encoded, beside the one that is reconstructed.
            What waits is held in memory, so it is a few.
    """

    read: Executor = field(default_factory=Inline)
    encode: Executor = field(default_factory=Inline)
    ahead: int = 0


def in_order(
    items: Iterable[Item], submit: Callable[[Item], Future[Result]], ahead: int
) -> Iterator[tuple[Item, Future[Result]]]:
    """Items with their futures, in order, ``ahead`` of them submitted before they are asked for."""
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    for item in items:
        waiting.append((item, submit(item)))
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting
