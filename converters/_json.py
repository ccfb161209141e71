"""JSON from strangers: UTF-8, bounded in depth, every text one that can be written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

_MAX_DEPTH = 64  # a features.json nests about twenty deep
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json(data: bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Parse; ``pairs`` is `json.loads`' ``object_pairs_hook``.

    Raises:
        ValueError: not JSON in UTF-8, nested too deep, or a text with half a surrogate pair, which
            JSON can escape and no file can hold.
    """
    try:
        tree = json.loads(data.decode(), object_pairs_hook=pairs)
        if _SURROGATE.search(data):
            json.dumps(tree, ensure_ascii=False, default=str).encode()
    except RecursionError as error:
        raise ValueError(f"nested more than {_MAX_DEPTH} deep") from error
    _check_depth(tree)
    return tree


def _check_depth(tree: Any) -> None:
    """Nesting that `json` just reads is still too deep for a comparison or an error's text."""
    level = [tree] if _nests(tree) else []
    for _ in range(_MAX_DEPTH):
        parts = (node.values() if isinstance(node, dict) else node for node in level)
        level = [child for part in parts for child in part if _nests(child)]
        if not level:
            return
    raise ValueError(f"nested more than {_MAX_DEPTH} deep")


def _nests(value: Any) -> bool:
    return isinstance(value, (dict, list))
