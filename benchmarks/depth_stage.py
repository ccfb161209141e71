"""How much of the bare forward pass's rate the whole reconstruction stage keeps on one GPU.

    python -m benchmarks.depth_stage --workers 1 --workers 8 --workers 16

The stage is what builds do with a view whose camera is known (`pipeline.samples`): decode H.264,
render the robot, run the network, anchor its depth, mask the robot, encode the sample, whose bytes
are thrown away. Workers are processes, each with a network of its own on the one GPU, as those of
the local engine; one decodes and encodes while another's network runs. Bare is the same network at
the size in which it sees these pictures, at the best of ``--bare-batch``, with nothing beside it.

With ``--served`` one more process runs the network for all workers (`reconstruction.depth.served`),
and these have no CUDA context.

Clips are of a twin, filmed while the workers start. With random weights (``--random``) the network
runs, and what is anchored and encoded is not what it says but the twin's true depth with a
network's errors: depth that the robot contradicts would be refused, and work left out. ``--model``
uses the network's own; ``anchored`` says of how many clips it was taken.

JSON lines as it goes: what was filmed, how many workers are ready, then for each encoder the bare
rate, and the stage's for each count of workers, from the least on; workers open their networks
only then. Waits are bounded by ``--patience``. Milliseconds by part are of a frame in one worker,
so those of the network include waiting for other workers'; CPU is of all of a process' threads.
"""

from __future__ import annotations

import os

# Software OpenGL would start a thread a core; read where a context is made.
os.environ.setdefault("LP_NUM_THREADS", "1")

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks._common import cores
from benchmarks._depth_clips import TWINS, StageClip, make_clips
from benchmarks._depth_processes import OrderFailed, ask, end, ready, workers_of
from reconstruction.depth import DepthEstimator
from reconstruction.depth.served.process import SLOTS, serving

CLIPS, FRAMES = 201_426, 49  # of Robo4D-200k
# Seconds a frame as published, not measured here. VGGT: README of facebookresearch/vggt, "Runtime
# and GPU Memory": its aggregator alone, 50 frames in 1.04 s on an H100 with Flash Attention 3.
# Video-Depth-Anything: README of DepthAnything/Video-Depth-Anything, release notes of 2025-02-08:
# V2-Small in FP16 on an A100, 7.5 ms, input 1 x 32 x 518 x 518.
PUBLISHED = {"VGGT, H100": 1.04 / 50, "Video-Depth-Anything-S, A100": 0.0075}
_SMALL = "tf_efficientnet_lite0"


def gpu_hours(frames_per_s: float) -> float:
    """GPU-hours for all clips of Robo4D-200k at a rate."""
    return round(CLIPS * FRAMES / frames_per_s / 3600, 2)


def main(arguments: Sequence[str] | None = None) -> None:
    """JSON lines; see the module."""
    options = _parser().parse_args(arguments)
    counts = sorted(set(options.workers or [1, 4, 8, 16]))
    models: list[Path | str] = [options.model] if options.model else options.random or [_SMALL]
    failed = False
    began = time.monotonic()
    of_a_worker = {"CUDA_VISIBLE_DEVICES": ""} if options.served else {}
    environments = [{}, *[of_a_worker] * counts[-1]]
    with tempfile.TemporaryDirectory() as folder, workers_of(environments) as processes:
        clips = make_clips(
            Path(folder) / "clips", options.source, options.clips, options.size, options.frames
        )
        _say({"clips_made": len(clips), "seconds": round(time.monotonic() - began, 1)})
        bare, *workers = processes
        there = ready(workers, options.patience)
        seconds = round(time.monotonic() - began, 1)
        _say({"workers_ready": len(there), "of": len(workers), "seconds": seconds})
        able = [count for count in counts if count <= len(there)]
        if not ready([bare], options.patience):
            raise RuntimeError(f"no process to measure the bare rate in {options.patience:g} s")
        facts = [_bare(bare, model, options) for model in models]
        end(bare, options.patience)  # its CUDA context, before another is measured
        for model, known in zip(models, facts, strict=True):
            try:
                _measure(there, able, model, known, clips, options)
            except OrderFailed as error:
                failed = True
                _say({"encoder": str(model), "failed": str(error)})
    if failed or able != counts:
        sys.exit(1)


def _bare(process: Connection, model: Path | str, options: argparse.Namespace) -> dict[str, Any]:
    batches = options.bare_batch or [8, 32, 64, 128]
    order = (model, options.batch, options.size, batches)
    (facts,) = ask([process], "bare", [order], options.patience)
    rate = max(facts["bare"].values())
    facts["bare"] = {batch: round(rate, 1) for batch, rate in facts["bare"].items()}
    facts["million_parameters"] = round(facts["million_parameters"], 1)
    facts |= {"bare_frames_per_s": round(rate, 1), "bare_gpu_hours": gpu_hours(rate)}
    facts = {"encoder": str(model), "size": list(options.size), "batch": options.batch, **facts}
    _say(facts)
    return facts


def _open_served(model: Path | str, batch: int) -> DepthEstimator:
    # Imported here: this process needs none of it.
    from benchmarks._depth_worker import open_network

    return open_network(model, batch)


def _measure(
    workers: list[Connection],
    counts: list[int],
    model: Path | str,
    facts: dict[str, Any],
    clips: list[StageClip],
    options: argparse.Namespace,
) -> None:
    began = time.monotonic()
    with ExitStack() as stack:
        opener = partial(_open_served, model, options.batch)
        servers = options.servers if options.served else 0
        starting = [stack.enter_context(serving(opener, options.slots)) for _ in range(servers)]
        addresses: list[Any] = starting or [None]
        if servers:
            _say({"encoder": str(model), "served": round(time.monotonic() - began, 1)})
        orders = [
            (clips, model, options.batch, addresses[worker % len(addresses)])
            for worker in range(counts[-1])
        ]
        told = {**facts, "servers": servers, "slots": options.slots}
        opened = 0
        for count in counts:
            # One alone at first: it compiles what the others find in a cache.
            for part in (slice(opened, opened or 1), slice(opened or 1, count)):
                _open(workers[part], orders[part], options)
            opened = count
            _run(workers[:count], told, options)


def _open(
    workers: list[Connection], orders: list[tuple[Any, ...]], options: argparse.Namespace
) -> None:
    if not workers:
        return
    began = time.monotonic()
    took = ask(workers, "open", orders, options.patience)
    slowest = {part: round(max(one[part] for one in took), 1) for part in took[0]}
    seconds = round(time.monotonic() - began, 1)
    _say({"opened": len(workers), "seconds": seconds, "slowest": slowest})


def _run(workers: list[Connection], told: dict[str, Any], options: argparse.Namespace) -> None:
    begin = time.monotonic() + 0.5
    orders = [(worker, begin, options.seconds) for worker in range(len(workers))]
    said = ask(workers, "run", orders, options.seconds + options.patience)
    rate = sum(one["clips"] for one in said) * options.frames / options.seconds
    whole = sum(one["whole"] for one in said)
    wall, cpu = (_milliseconds(said, kind, whole * options.frames) for kind in ("wall", "cpu"))
    _say(
        {
            **told,
            "workers": len(workers),
            "cores": cores(),
            "stage_frames_per_s": round(rate, 1),
            "kept": round(rate / told["bare_frames_per_s"], 4),
            "stage_gpu_hours": gpu_hours(rate),
            "published_gpu_hours": {n: gpu_hours(1 / s) for n, s in PUBLISHED.items()},
            "clips": whole,
            "anchored": sum(one["anchored"] for one in said),
            "kb_a_clip": round(sum(one["bytes"] for one in said) / whole / 1000),
            "wall_ms_a_frame": wall,
            "cpu_ms_a_frame": cpu,
        }
    )


def _milliseconds(said: list[dict[str, Any]], kind: str, frames: int) -> dict[str, float]:
    """Of one frame, by part; ``rest`` is what lies between the parts."""
    total: Counter[str] = Counter()
    for one in said:
        total.update(one[kind])
    parts = {part: 1000 * seconds / frames for part, seconds in total.items()}
    parts["rest"] = 2 * parts["all"] - sum(parts.values())
    return {part: round(ms, 3) for part, ms in parts.items()}


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def _size(text: str) -> tuple[int, int]:
    height, width = (int(part) for part in text.split("x"))
    return height, width


def _parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parse.add_argument("--source", choices=sorted(TWINS), default="rt1", help="twin to film (rt1)")
    parse.add_argument("--size", type=_size, default=(256, 320), help="HxW of clips (256x320)")
    parse.add_argument("--clips", type=int, default=8, help="distinct clips (8)")
    parse.add_argument("--frames", type=int, default=FRAMES, help=f"of a clip ({FRAMES})")
    parse.add_argument("--workers", type=int, action="append", help="repeatable (1, 4, 8, 16)")
    parse.add_argument("--seconds", type=float, default=12.0, help="measured, a count (12)")
    parse.add_argument("--batch", type=int, default=8, help="depth.batch of the build (8)")
    parse.add_argument(
        "--bare-batch", type=int, action="append", help="repeatable (8, 32, 64, 128)"
    )
    parse.add_argument(
        "--patience",
        type=float,
        default=120.0,
        help="s that workers may take to start, and for an order beside the measured time (120)",
    )
    parse.add_argument("--served", action="store_true", help="one process runs the network")
    parse.add_argument("--servers", type=int, default=1, help="of them, which workers share (1)")
    parse.add_argument("--slots", type=int, default=SLOTS, help=f"of a server ({SLOTS})")
    weights = parse.add_mutually_exclusive_group()
    weights.add_argument("--model", type=Path, help="a checkpoint of ours; its own depth is used")
    weights.add_argument(
        "--random", action="append", metavar="ENCODER", help=f"repeatable ({_SMALL})"
    )
    return parse


if __name__ == "__main__":
    main()
