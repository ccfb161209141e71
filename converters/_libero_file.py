"""One ``<task>_demo.hdf5`` of LIBERO: what it says of its task, and the numbers of its demos."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters._hdf5 import NumberFile
from converters._libero import ACTION_COLUMNS, SUFFIX, safe_name, scene_of
from converters._libero_model import MAX_BYTES
from schemas.episode import Outcome
from schemas.plan import Groups
from schemas.reasons import EpisodeError, Reason

ROLLOUT = "robo4d_rollout"
MAX_JSON = 1 << 16
_MAX_ROWS = 10_000  # more than eight minutes at 20 Hz; demos have a few hundred
_MAX_STATE = 1 << 12
_MAX_TEXT = 200


@dataclass(frozen=True)
class TaskFile:
    """What a file says of all its demos."""

    stem: str
    suite: str
    problem: str
    instruction: str
    rate: float | None
    rollout: str

    @property
    def groups(self) -> Groups:
        """LIBERO-100 names its scenes in the task's name; else the kind of scene counts."""
        scene = scene_of(self.stem) or self.problem
        return Groups(scene=scene, lab="libero", task=self.stem)


@dataclass(frozen=True)
class Demo:
    """What is used of one ``data/demo_<i>``; ``states`` (T, S) as stored."""

    model: str
    states: NDArray[np.float64]
    actions: NDArray[np.float64]
    rewards: NDArray[np.float64] | None
    dones: NDArray[np.float64] | None
    rollout: dict[str, Any]

    @property
    def outcome(self) -> Outcome:
        """A rollout says so itself; a published demo ends in 1."""
        if self.rollout:
            success = self.rollout.get("success")
            if isinstance(success, bool):
                return "success" if success else "failure"
            return "unknown"
        ends = [values[-1] == 1 for values in (self.dones, self.rewards) if values is not None]
        return "success" if any(ends) else "unknown"

    @property
    def notes(self) -> list[str]:
        """What a rollout says of its policy, noise, seed and result."""
        said = [
            f"{name} {_text(str(value))}"
            for name, value in sorted(self.rollout.items())
            if isinstance(value, str | int | float | bool) and name.isidentifier()
        ]
        return [f"a fresh rollout, not a published demo: {', '.join(said[:16])}"] if said else []

    @cached_property
    def sha256(self) -> str:
        """Over all that is read of it."""
        digest = hashlib.sha256(self.model.encode(errors="surrogatepass"))
        digest.update(json.dumps(self.rollout, sort_keys=True).encode())
        for array in (self.states, self.actions, self.rewards, self.dones):
            digest.update(b"none" if array is None else f"{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()


def demo_numbers(log: NumberFile) -> list[int]:
    """The i of every ``data/demo_<i>``, in order."""
    found = (re.fullmatch(r"demo_(0|[1-9][0-9]{0,8})", name) for name in log.names("data"))
    return sorted(int(match.group(1)) for match in found if match)


def read_file(log: NumberFile, file: str) -> TaskFile:
    """What the file's attributes say.

    Raises:
        EpisodeError: attributes that cannot be read, or `BAD_IDENTITY`.
    """
    stem = Path(file).name.removesuffix(SUFFIX)
    problem = _json(log, "data", "problem_info")
    words = problem.get("language_instruction", "")
    if isinstance(words, list):  # LIBERO itself joins it, text or list
        words = "".join(word for word in words if isinstance(word, str))
    kwargs = _json(log, "data", "env_args").get("env_kwargs")
    rate = kwargs.get("control_freq") if isinstance(kwargs, dict) else None
    bddl = (log.text("data", "bddl_file_name", MAX_JSON) or "").split("/")
    suite = bddl[-2] if len(bddl) > 1 else Path(file).parent.name
    return TaskFile(
        stem=safe_name(stem),
        suite=safe_name(suite or "unknown"),
        problem=_text(problem.get("problem_name")),
        instruction=_text(words).strip().strip('"'),
        rate=float(rate) if isinstance(rate, int | float) and 0 < rate < 1e4 else None,
        rollout=log.text("data", ROLLOUT, MAX_JSON) or "",
    )


def read_demo(log: NumberFile, number: int) -> Demo:
    """One demo's numbers.

    Raises:
        EpisodeError: something is missing, not finite, too large, or of another length.
    """
    group = f"data/demo_{number}"
    model = log.text(group, "model_file", MAX_BYTES)
    if model is None:
        raise EpisodeError(Reason.MISSING_FEATURE, f"{group} has no model_file")
    actions = _numbers(log, f"{group}/actions", (len(ACTION_COLUMNS["action"]),))
    if actions is None:
        raise EpisodeError(Reason.MISSING_FEATURE, f"{group} has no actions")
    rows = len(actions)
    if rows == 0:
        raise EpisodeError(Reason.EMPTY_EPISODE, f"{group} has no step")
    if rows > _MAX_ROWS:
        raise EpisodeError(Reason.TOO_LARGE, f"{group} has {rows} steps; at most {_MAX_ROWS}")
    said = log.count(group, "num_samples")
    if said is not None and said != rows:
        raise EpisodeError(
            Reason.WRONG_SHAPE, f"{group} says num_samples {said} and has {rows} actions"
        )
    states = _numbers(log, f"{group}/states", None, rows)
    if states is None:
        raise EpisodeError(Reason.MISSING_FEATURE, f"{group} has no states")
    return Demo(
        model,
        states,
        actions,
        _numbers(log, f"{group}/rewards", (), rows),
        _numbers(log, f"{group}/dones", (), rows),
        _json(log, group, ROLLOUT),
    )


def _numbers(
    log: NumberFile, name: str, tail: tuple[int, ...] | None, rows: int | None = None
) -> NDArray[np.float64] | None:
    """As float64 and finite; without ``tail``, rows of any one width up to a limit."""
    values = log.numbers(name, tail, rows)
    if values is None:
        return None
    if tail is None and not 0 < values.shape[1] <= _MAX_STATE:
        raise EpisodeError(
            Reason.TOO_LARGE, f"{name} has rows of {values.shape[1]}; at most {_MAX_STATE}"
        )
    out = values.astype(np.float64)
    if not np.isfinite(out).all():
        step = int(np.argwhere(~np.isfinite(out))[0][0])
        raise EpisodeError(Reason.NON_FINITE, f"{name} has no finite value at step {step}")
    return out


def _json(log: NumberFile, group: str, attribute: str) -> dict[str, Any]:
    """A JSON object; empty where the attribute is not there."""
    text = log.text(group, attribute, MAX_JSON)
    if text is None:
        return {}
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EpisodeError(
            Reason.UNDECODABLE_RECORD, f"{attribute!r} of {group!r} is no JSON: {error}"
        ) from error
    if not isinstance(tree, dict):
        raise EpisodeError(Reason.WRONG_DTYPE, f"{attribute!r} of {group!r} holds no object")
    return tree


def _text(value: object) -> str:
    """A stranger's text, printable and short."""
    text = value if isinstance(value, str) else ""
    return "".join(c for c in text if c.isprintable())[:_MAX_TEXT]
