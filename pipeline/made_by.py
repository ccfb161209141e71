"""Which of the product's own source files a result is made by, as their imports tell."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from pipeline.lineage import CODE_FOLDERS, with_weights

_ROOT = Path(__file__).resolve().parent.parent


@lru_cache(maxsize=16)
def code_of(roots: tuple[str, ...], alone: tuple[str, ...] = (), base: Path = _ROOT) -> str:
    """sha256 over the path, a zero byte and the content of each file of `files_of`, in order."""
    digest = hashlib.sha256()
    for path in files_of(roots, alone, base):
        digest.update(path.relative_to(base).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def files_of(roots: tuple[str, ...], alone: tuple[str, ...] = (), base: Path = _ROOT) -> list[Path]:
    """The source files of modules, and of all that they import, at their top or within functions,
    and weights that lie beside one by its name.

    Args:
        roots: dotted names; a package stands for all of its modules.
        alone: modules that count by their own text: they call what makes the result, and call
            other things too.
        base: folder that the packages lie in.

    Returns paths in their order.
    """
    waiting = [path for name in roots for path in _modules(name, base)]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(path, base)
    found.update(path for name in alone for path in _modules(name, base))
    return sorted(path for source in found for path in with_weights(source))


def _modules(name: str, base: Path) -> list[Path]:
    place = base.joinpath(*name.split("."))
    found = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    if not found or not all(path.is_file() for path in found):
        raise ValueError(f"{name!r} is no module under {base}")
    return found


def _imported(path: Path, base: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module is None:
                raise ValueError(f"{path} has a relative import; name the whole module")
            # What is imported from a package may be a module of it.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] in CODE_FOLDERS:
                yield from _loaded(name, base)


def _loaded(name: str, base: Path) -> Iterator[Path]:
    """Files that importing a name runs: its packages' and its own."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        place = base.joinpath(*parts[:count])
        for path in (place / "__init__.py", place.with_suffix(".py")):
            if path.is_file():
                yield path
