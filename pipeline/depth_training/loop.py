"""The training itself: from a set of takes to a checkpoint, resumed where it was broken off."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from pipeline.depth_training.batches import ASPECTS, PairCutter
from pipeline.depth_training.crew import ALONE, Crew
from pipeline.depth_training.step import Step, look, rate_of
from pipeline.depth_training.takes import TakeSet
from reconstruction.depth.pointmap.checkpoint import (
    load_checkpoint,
    load_encoder,
    save_checkpoint,
)
from reconstruction.depth.pointmap.network import NetworkConfig, PointmapNetwork
from schemas.reasons import UsageError
from schemas.training import DepthTraining

_TOLD_EVERY = 100
_JUDGED_AT_ONCE = 64  # pairs; whatever the batch, so that trainings are judged by the same ones

Tell = Callable[[dict[str, Any]], None]


def train_network(
    config: DepthTraining,
    takes: TakeSet,
    out: Path,
    *,
    device: torch.device,
    tell: Tell,
    until: float = math.inf,
    resident: bool = True,
    crew: Crew = ALONE,
) -> Path | None:
    """Train, or go on training what ``out`` holds.

    Args:
        out: folder of ``state.pt`` (to go on from), ``curve.jsonl`` and ``checkpoint.safetensors``.
        tell: called with each line of the curve.
        until: `time.monotonic` at which to save the state and stop.
        resident: hold the set on the device.
        crew: of the processes that train this one network, each of which calls this.

    The state is saved at every look at the validation, and where it stops.

    Returns:
        The checkpoint, once all steps are done.

    Raises:
        UsageError: too few takes, a batch that cannot be parted, or ``out`` is of another
            configuration.
    """
    out.mkdir(parents=True, exist_ok=True)
    _check_shares(config, takes, crew.size)
    loop = config.loop
    torch.manual_seed(loop.seed)
    network = make_network(config, begun=(out / "state.pt").is_file())
    learn = Step(network.to(device, memory_format=torch.channels_last), loop, crew)
    sizes = [network.size_for(aspect) for aspect in ASPECTS]
    share = takes.training[crew.rank :: crew.size]
    judges = takes.validation if crew.leads else takes.validation[:0]
    training, validation = (
        PairCutter(takes, torch.from_numpy(rows), sizes, device, resident)
        for rows in (share, judges)
    )
    at_once = min(loop.judged, _JUDGED_AT_ONCE)
    first = _resume(out, learn, config, crew.size)
    began = time.monotonic()
    sums: dict[str, Tensor] = {}
    summed = 0
    if crew.leads:
        _cut_curve(out, first)
    for step in range(first, loop.steps):
        for name, value in learn(step, training).items():
            sums[name] = sums.get(name, torch.zeros((), device=device)) + value
        done, summed = step + 1, summed + 1
        looks = done % loop.judge_every == 0 or done == loop.steps
        if done % _TOLD_EVERY == 0 or done == loop.steps:
            crew.average(list(sums.values()))
            line: dict[str, Any] = {"step": done, "rate": rate_of(loop, step)}
            line |= {name: round(float(value) / summed, 5) for name, value in sums.items()}
            line["pairs_per_s"] = round((done - first) * loop.batch / (time.monotonic() - began))
            sums, summed = {}, 0
            if crew.leads:
                if looks:
                    line["validation"] = judge(learn.average, validation, at_once, loop.judged)
                _append(out, line)
                tell(line)
        stopped = crew.agree(time.monotonic() > until and done < loop.steps, done, device)
        if crew.leads and (stopped or looks):
            _save_state(out, done, learn, config, crew.size)
        if stopped:
            crew.wait()  # who goes on needs the state
            return None
    checkpoint = out / "checkpoint.safetensors"
    if crew.leads:
        about: dict[str, Any] = {"training": config.model_dump(mode="json")}
        about["validation"] = judge(learn.average, validation, at_once, loop.judged)
        save_checkpoint(learn.average, checkpoint, about | {"processes": crew.size})
    return checkpoint


def check_training(config: DepthTraining, takes: TakeSet, out: Path, size: int) -> None:
    """Refuse what `train_network` would, before ``size`` processes are started for it.

    Raises:
        UsageError: as `train_network`'s.
    """
    _check_shares(config, takes, size)
    make_network(config, begun=_read_state(out, config, size) is not None)


def _check_shares(config: DepthTraining, takes: TakeSet, size: int) -> None:
    if len(takes.training) < size or not len(takes.validation):
        raise UsageError(
            f"{takes.folder} has {len(takes.training)} takes to train on and "
            f"{len(takes.validation)} to judge by; raise takes.units"
        )
    if config.loop.batch % size:
        raise UsageError(
            f"loop.batch is {config.loop.batch}, which {size} processes cannot part evenly; "
            f"choose a multiple of {size}, or other --gpus"
        )


def make_network(config: DepthTraining, begun: bool = False) -> PointmapNetwork:
    """The network before its training.

    Args:
        begun: without the weights that a training begins with, since it goes on.

    Raises:
        UsageError: those weights are not there, or are of another network.
    """
    part = config.network
    shape = NetworkConfig(**part.model_dump(exclude={"encoder_weights", "start"}))
    if begun or part.start is None:
        network = PointmapNetwork(shape)
        if part.encoder_weights is not None and not begun:
            load_encoder(network, part.encoder_weights)
        return network
    network = load_checkpoint(part.start, "network.start")
    theirs, ours = network.config.to_tree(), shape.to_tree()
    # Any size can be gone on with, and what sharpens is bilinear before it is trained.
    free = {"area"} if theirs["sharp"] else {"area", "sharp"}
    if others := [
        f"{key} {theirs[key]}, not {ours[key]}"
        for key in ours
        if key not in free and theirs[key] != ours[key]
    ]:
        raise UsageError(
            f"network.start is {part.start}, whose network has {'; '.join(others)}; "
            "set network's values to the checkpoint's, or choose another"
        )
    grown = PointmapNetwork(shape)
    grown.load_state_dict(network.state_dict(), strict=network.config.sharp == shape.sharp)
    return grown.train()


@torch.no_grad()
def judge(network: PointmapNetwork, cutter: PairCutter, size: int, pairs: int) -> dict[str, float]:
    """AbsRel and delta < 1.25 of the validation, in metres and after one scale a picture.

    With what a solved camera tells, and (``alone_...``) without.

    Args:
        size: pairs at once.
        pairs: in all; both pictures of each are judged.
    """
    network.eval()
    sums: dict[str, float] = {}
    rounds = max(1, pairs // size)
    for k, told in product(range(rounds), (True, False) if network.config.robot else (False,)):
        batch = cutter.cut(size, torch.Generator().manual_seed(k), plain=True)
        if not told:
            batch = replace(batch, hints=torch.zeros_like(batch.hints))
        said = look(network, batch)
        depth, seen = batch.truth.depth, batch.truth.depth > 0
        error = said.log_depth - depth.clamp_min(1e-3).log()
        middle = torch.where(seen, error, torch.nan).flatten(1).nanmedian(1).values
        scaled = error - middle[:, None, None]
        off = (said.shift - batch.truth.shift).norm(dim=1)
        for name, value in (
            ("abs_rel", scaled.expm1().abs()[seen].mean()),
            ("delta1", (scaled.abs()[seen] < math.log(1.25)).float().mean()),
            ("metric_abs_rel", error.expm1().abs()[seen].mean()),
            ("points", off[seen].mean()),
        ):
            name = name if told or not network.config.robot else f"alone_{name}"
            sums[name] = sums.get(name, 0.0) + float(value) / rounds
    network.train()
    return {name: round(value, 5) for name, value in sums.items()}


def _save_state(
    out: Path,
    step: int,
    learn: Step,
    config: DepthTraining,
    processes: int,
) -> None:
    state = {
        "processes": processes,
        "step": step,
        "network": learn.network.state_dict(),
        "average": learn.average.state_dict(),
        "optimizer": learn.optimizer.state_dict(),
        "config": config.model_dump_json(),
    }
    temporary = out / ".state.pt.writing"
    torch.save(state, temporary)
    temporary.rename(out / "state.pt")


def _read_state(out: Path, config: DepthTraining, processes: int) -> dict[str, Any] | None:
    file = out / "state.pt"
    if not file.is_file():
        return None
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    if not _is_of(state["config"], config):
        raise UsageError(
            f"{file} is of a training with another configuration; choose another --out"
        )
    if state["processes"] != processes:  # they would draw other batches
        raise UsageError(
            f"{file} is of a training by {state['processes']} processes, not {processes}: "
            f"--gpus {state['processes']} goes on with it"
        )
    return state


def _is_of(stored: str, config: DepthTraining) -> bool:
    """Whether a state's JSON is of ``config``; keys that came later have their defaults in it."""
    try:
        return DepthTraining.model_validate_json(stored) == config
    except ValidationError:  # it has a key that is no more
        return False


def _resume(out: Path, learn: Step, config: DepthTraining, processes: int) -> int:
    state = _read_state(out, config, processes)
    if state is None:
        return 0
    learn.network.load_state_dict(state["network"])
    learn.average.load_state_dict(state["average"])
    learn.optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _cut_curve(out: Path, step: int) -> None:
    """Without what was told after the state was saved."""
    curve = out / "curve.jsonl"
    if curve.is_file():
        lines = [line for line in curve.read_text().splitlines() if line]
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        curve.write_text("".join(f"{line}\n" for line in kept))


def _append(out: Path, line: dict[str, Any]) -> None:
    with open(out / "curve.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")
