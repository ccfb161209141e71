"""A tree of settings from YAML, then ``--set a.b=c``; an unknown key is told with the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from schemas.reasons import UsageError

Settings = TypeVar("Settings", bound=BaseModel)


def load_settings(
    model: type[Settings], path: Path | None = None, overrides: Sequence[str] = ()
) -> Settings:
    """Read a YAML file (or the defaults) and apply ``a.b=c`` overrides, whose values are YAML.

    Raises:
        UsageError: unreadable, an unknown key (with the nearest known one), or a bad value.
    """
    tree: Any = {}
    if path is not None:
        try:
            tree = yaml.safe_load(path.read_text()) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(f"cannot read the configuration {path}: {error}") from error
        if not isinstance(tree, dict):
            raise UsageError(f"{path} holds a {type(tree).__name__}; expected a mapping")
    return check_settings(model, tree, overrides)


def check_settings(
    model: type[Settings], tree: dict[str, Any], overrides: Sequence[str]
) -> Settings:
    """Settings of a tree, with overrides; it is changed. Errors as of `load_settings`."""
    for given in overrides:
        name, equals, value = given.partition("=")
        if not equals:
            raise UsageError(f"--set {given!r} has no '='; expected --set section.key=value")
        node = tree
        *sections, leaf = name.strip().split(".")
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise UsageError(f"--set {name}: {section!r} is a value, not a section")
        try:
            node[leaf] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {name}: {value!r} is not YAML: {error}") from error
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        said = "; ".join(_explain(model, one) for one in error.errors())
        raise UsageError(f"configuration: {said}") from error


def _explain(model: type[BaseModel], error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] != "extra_forbidden":
        return f"{where} is {error['input']!r}: {error['msg']}"
    close = difflib.get_close_matches(where, _paths(model), n=1)
    return f"unknown key {where!r}" + (f"; did you mean {close[0]!r}?" if close else "")


def _paths(model: type[BaseModel], prefix: str = "") -> list[str]:
    out = []
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            out += [prefix + name, *_paths(kind, f"{prefix}{name}.")]
        else:
            out.append(prefix + name)
    return out
