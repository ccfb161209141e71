"""One fuzz case: sound inputs, damaged, then read and built as a build does. Runs in a worker.

A case is a function of (seed, number) alone, so that any one can be run again.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks import inputs_libero as libero
from benchmarks import inputs_raw as raw
from benchmarks import inputs_rlds as rlds
from benchmarks._mutate_files import (
    DIRECTORY,
    LINK_LOOP,
    LINK_NOWHERE,
    LINK_OUT,
    PIPE,
    mutate_folder,
    mutator_of,
)
from benchmarks.inputs_rlds import Files
from converters import open_source
from converters._libero_assets import SITE_VARIABLE
from jobs.build import run_build
from pipeline.checks import check_motion
from pipeline.clip import plan_clip
from pipeline.manifest import read_table
from pipeline.plan import make_plan
from pipeline.store import Store
from pipeline.verify import verify
from reconstruction.motion import solve_motion
from robots.models import get_robot
from schemas.config import BuildConfig, CameraConfig, ChecksConfig, QuarantineConfig, RunConfig
from schemas.episode import Episode
from schemas.reasons import EpisodeError, UsageError

# Cameras are not solved: seconds a case, on frames that are noise.
CONFIG = BuildConfig(quarantine=QuarantineConfig(max_share=1.0), camera=CameraConfig(solve="never"))
_UNCHECKED = CONFIG.model_copy(
    update={"checks": ChecksConfig(joint_limit_margin=1e9, ee_position=1e9, ee_rotation=1e9)}
)
_WHOLE_BUILD = 0.02  # share of cases that go through plan, shard, tables and verification
_SOLVE = 0.1  # share of cases without measured joints whose joints are solved: it takes 0.2 s


@dataclass(frozen=True)
class Target:
    """A layout of a source.

    Attributes:
        source: its name in `converters.SOURCES`.
        make: sound inputs; made once a worker.
        shared: ends of the names of files that all episodes share: where these are broken the
            data set may be refused as a whole. Nothing else may stop a build.
        seen: share of the cases whose frames are decoded; rendered ones take seconds.
        config: what its episodes are checked by.
    """

    source: str
    make: Callable[[], Files]
    shared: tuple[str, ...] = ()
    seen: float = 1.0
    config: BuildConfig = CONFIG


@dataclass(frozen=True)
class Outcome:
    """What became of a case: ``built``, ``quarantined``, ``refused`` or ``bug``, and why."""

    case: int
    target: str
    files: tuple[str, ...]
    outcome: str
    why: str = ""
    trace: str = ""


def _droid_raw() -> Files:
    trees = raw.droid_annotations([raw.DROID_UUID], [raw.DROID_PATH])
    return {**raw.with_times(raw.droid_folder()), **raw.annotation_files(trees)}


# Kept for as long as the worker lives.
_SITE = tempfile.TemporaryDirectory(prefix="robo4d-fuzz-assets-", ignore_cleanup_errors=True)


def _libero_demo() -> Files:
    """Beside assets made to order, so that LIBERO need not be here."""
    place = Path(_SITE.name)
    if not (place / "site").is_dir():
        libero.assets(place)
    os.environ[SITE_VARIABLE] = str(place / "site")
    text = libero.model(assets=libero.TEXTURE)
    return {libero.FILE: libero.write_demo(place / "demo", text=text).read_bytes()}


_RLDS_SHARED = ("features.json", "dataset_info.json")
_ANNOTATIONS = tuple(raw.annotation_files(raw.droid_annotations([], [])))
TARGETS: dict[str, Target] = {
    "droid rlds": Target(
        "droid",
        lambda: rlds.data_set(
            "droid",
            "1.0.0",
            rlds.droid_features(),
            [rlds.droid_record(), rlds.droid_record(path="TEST/failure/2026-01-01/Mon_1")],
        ),
        _RLDS_SHARED,
    ),
    "bridge rlds": Target(
        "bridge",
        lambda: rlds.data_set(
            "bridge_dataset",
            "1.0.0",
            rlds.bridge_features(),
            [rlds.bridge_record(), rlds.bridge_record(number=1)],
        ),
        _RLDS_SHARED,
    ),
    "rt1 rlds": Target(
        "rt1",
        lambda: rlds.data_set(
            "fractal20220817_data",
            "0.1.0",
            rlds.rt1_features(),
            [rlds.rt1_record(), rlds.rt1_record(offset=0.2)],
        ),
        _RLDS_SHARED,
    ),
    "droid raw": Target("droid", _droid_raw, _ANNOTATIONS),
    "bridge raw": Target("bridge", raw.bridge_folder, ()),
    # An arm made to order is no Panda: its poses are checked by nothing here.
    "libero demo": Target("libero", _libero_demo, (), seen=0.03, config=_UNCHECKED),
}


@cache
def _sound(target: str) -> Files:
    return TARGETS[target].make()


def make_case(seed: int, number: int) -> tuple[str, Files, list[str], random.Random]:
    """Target, damaged files, names of what was damaged, and the draw to go on with."""
    draw = random.Random(f"{seed}:{number}")
    target = draw.choice(tuple(TARGETS))
    files, hit = dict(_sound(target)), []
    # Every kind of file is as likely as every other (images and videos are many), but what is
    # shared, whose damage mostly ends in a refusal at once, is hit in a quarter of the cases.
    shared = TARGETS[target].shared
    by_kind: dict[str, list[str]] = {}
    for name in files:
        by_kind.setdefault(re.sub(r"\d+", "", name.rpartition("/")[2]), []).append(name)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        common = bool(shared) and draw.random() < 0.25
        names = by_kind[draw.choice([k for k in sorted(by_kind) if k.endswith(shared) == common])]
        if draw.random() < 0.06:
            files, name = mutate_folder(files, [n for n in names if n in files] or names, draw)
            hit.append(f"{name} (place)")
            break
        name = draw.choice(names)
        files[name] = mutator_of(name)(files[name], draw)
        hit.append(name)
    return target, files, hit, draw


def run_case(seed: int, number: int, folder: Path) -> Outcome:
    """Make a case below ``folder``, run it, and say what became of it."""
    target, files, hit, draw = make_case(seed, number)
    shutil.rmtree(folder, ignore_errors=True)
    data = folder / "data"
    _lay_out(files, data, folder / "outside")
    whole, solve = draw.random() < _WHOLE_BUILD, draw.random() < _SOLVE
    seen = draw.random() < TARGETS[target].seen
    whole = whole and seen
    may_refuse = any(name.endswith((*TARGETS[target].shared, " (place)")) for name in hit)
    try:
        run = _build if whole else _read
        outcome, why, trace = *run(TARGETS[target], data, folder, solve, seen), ""
    except UsageError as error:
        outcome, why, trace = "refused", str(error)[:200], traceback.format_exc(limit=-6)
        if not may_refuse:
            outcome = "bug"
    # What nobody foresaw is what is looked for here.
    except Exception as error:  # noqa: BLE001
        outcome, why, trace = "bug", f"{error!r:.300}", traceback.format_exc(limit=-8)
    return Outcome(number, target, tuple(hit), outcome, why, trace if outcome == "bug" else "")


def _lay_out(files: Files, data: Path, outside: Path) -> None:
    for name, content in files.items():
        path = data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content == DIRECTORY:
            path.mkdir()
        elif content == PIPE:
            os.mkfifo(path)
        elif content == LINK_LOOP:
            path.symlink_to(path)
        elif content == LINK_NOWHERE:
            path.symlink_to(outside / "nowhere")
        elif content == LINK_OUT:
            outside.mkdir(exist_ok=True)
            (outside / path.name).write_bytes(b"secret")
            path.symlink_to(outside / path.name)
        else:
            path.write_bytes(content)


def _read(target: Target, data: Path, folder: Path, solve: bool, seen: bool) -> tuple[str, str]:
    """Open, list, and take each episode up to its decoded clip."""
    del folder
    opened = open_source(target.source, str(data))
    # As the plan holds them: what it cannot hold would stop a build.
    refs = [(s, ref) for s, found in opened.refs(None).items() for ref in found]
    if not refs:
        raise UsageError("no record to build from")
    reasons = []
    for split, ref in refs:
        json.dumps(asdict(ref), ensure_ascii=False).encode()
        try:
            _take(opened.read(ref, split, None), target.config, solve, seen)
        except EpisodeError as error:
            f"{error.episode_id} {error}".encode()  # as a row of the quarantine
            reasons.append(str(error.reason))
        except UsageError as error:
            raise RuntimeError(f"UsageError while reading: {error}") from error
    return ("quarantined", ", ".join(sorted(set(reasons)))) if reasons else ("built", "")


def _take(episode: Episode, config: BuildConfig, solve: bool, seen: bool) -> None:
    clip = plan_clip(episode, config.clip)
    robot = get_robot(episode.robot.robot)
    if solve or episode.robot.joints is not None:
        motion = solve_motion(episode, robot)
        check_motion(episode, robot, motion, config.checks)
        for values in (motion.joints, motion.ee, motion.link_poses, motion.gripper):
            if not np.isfinite(values).all():
                raise RuntimeError("motion is not finite")
    for camera in episode.cameras.values() if seen else ():
        rgb = camera.decode(clip.steps)
        if rgb.ndim != 4 or len(rgb) != len(clip.steps) or rgb.shape[3] != 3:
            raise RuntimeError(f"decoded {rgb.shape}")
    texts = [episode.id, *episode.instructions, *episode.notes, *episode.aliases]
    "".join(texts).encode()


def _build(target: Target, data: Path, folder: Path, solve: bool, seen: bool) -> tuple[str, str]:
    """Plan, build, write the tables, verify; every record planned is accounted for."""
    del solve, seen
    plan = make_plan({target.source: str(data)}, target.config)
    out = Store.at(folder / "out")
    try:
        run_build(plan, out, RunConfig())
        verdict = verify(out)
    except UsageError as error:
        raise RuntimeError(f"UsageError while building: {error}") from error
    if verdict.problems:
        raise RuntimeError(f"verification: {verdict.problems[:3]}")
    reasons = sorted({row["reason"] for row in read_table(out, "quarantine.parquet")})
    return ("quarantined", ", ".join(reasons)) if reasons else ("built", "")
