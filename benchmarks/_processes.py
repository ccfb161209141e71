"""Processor time and memory of a process and of all that it starts (Linux's /proc)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Seen:
    """One process: processor seconds so far, most memory it ever held in MB, and what it runs."""

    cpu: float
    peak_mb: int
    command: str


@dataclass
class Watch:
    """Looks at a process tree again and again while its ``with`` block runs.

    A process that lives less than ``every`` seconds may be missed, and so may the last bit of
    another's processor time.

    Attributes:
        root: process id; this one's own is left out of `others`.
    """

    root: int
    every: float = 1.0
    seen: dict[int, Seen] = field(default_factory=dict)
    _end: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    @property
    def cpu(self) -> float:
        """Processor seconds of the whole tree."""
        return sum(one.cpu for one in self.seen.values())

    @property
    def others(self) -> list[Seen]:
        """All but the root, the largest first."""
        rest = [one for pid, one in self.seen.items() if pid != self.root]
        return sorted(rest, key=lambda one: -one.peak_mb)

    def _run(self) -> None:
        while True:
            for pid in _tree(self.root):
                try:
                    now, before = _look(pid), self.seen.get(pid)
                    if before is not None and not now.peak_mb:  # it ended and is not reaped yet
                        now = Seen(now.cpu, before.peak_mb, before.command)
                    self.seen[pid] = now
                except (OSError, ValueError, IndexError):
                    continue  # it ended meanwhile; what was seen last stays
            if self._end.wait(self.every):
                return


def _tree(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int(_stat(int(entry.name))[1])
            except (OSError, ValueError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    todo = [root]
    while todo:
        pid = todo.pop()
        yield pid
        todo += children.get(pid, [])


def _stat(pid: int) -> list[str]:
    # The command may hold blanks and brackets; it ends at the last bracket. proc(5).
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _look(pid: int) -> Seen:
    fields = _stat(pid)
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
    command = (
        Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    )
    return Seen((int(fields[11]) + int(fields[12])) / _TICK, int(peak.split()[1]) // 1024, command)
