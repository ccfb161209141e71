"""How much of the bare forward pass's rate the whole reconstruction stage keeps on one GPU.

    python -m benchmarks.depth_stage --workers 1 --workers 8 --workers 16

The stage is what builds do with a view whose camera is known (`pipeline.samples`): decode H.264,
render the robot, run the network, anchor its depth, mask the robot, encode the sample, whose bytes
are thrown away. Workers are processes, each with a network of its own on the one GPU, as those of
the local engine; one decodes and encodes while another's network runs. Bare is the same network at
the size in which it sees these pictures, at the best of ``--bare-batch``, with nothing beside it.

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from benchmarks._common import cores
from benchmarks._depth_clips import TWINS, StageClip, make_clips

CLIPS, FRAMES = 201_426, 49  # of Robo4D-200k
# Seconds a frame as published, not measured here. VGGT: README of facebookresearch/vggt, "Runtime
# and GPU Memory": its aggregator alone, 50 frames in 1.04 s on an H100 with Flash Attention 3.
# Video-Depth-Anything: README of DepthAnything/Video-Depth-Anything, release notes of 2025-02-08:
# V2-Small in FP16 on an A100, 7.5 ms, input 1 x 32 x 518 x 518.
PUBLISHED = {"VGGT, H100": 1.04 / 50, "Video-Depth-Anything-S, A100": 0.0075}
_SMALL = "tf_efficientnet_lite0"
_GOODBYE = 5.0  # s, for all workers to end by themselves


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
    with tempfile.TemporaryDirectory() as folder, _workers(counts[-1]) as workers:
        clips = make_clips(
            Path(folder) / "clips", options.source, options.clips, options.size, options.frames
        )
        _say({"clips_made": len(clips), "seconds": round(time.monotonic() - began, 1)})
        ready = _ready(workers, options.patience)
        seconds = round(time.monotonic() - began, 1)
        _say({"workers_ready": len(ready), "of": len(workers), "seconds": seconds})
        able = [count for count in counts if count <= len(ready)]
        for model in models:
            try:
                _measure(ready, able, model, clips, options)
            except OrderFailed as error:
                failed = True
                _say({"encoder": str(model), "failed": str(error)})
    if failed or able != counts:
        sys.exit(1)


class OrderFailed(RuntimeError):
    """What a worker was asked to do raised; it waits for the next order."""


def _measure(
    workers: list[Connection],
    counts: list[int],
    model: Path | str,
    clips: list[StageClip],
    options: argparse.Namespace,
) -> None:
    shared: dict[str, Any] = {
        "encoder": str(model),
        "size": list(options.size),
        "batch": options.batch,
    }
    bare = 0.0
    opened = 0
    for count in counts:
        began = time.monotonic()
        order = (clips, model, options.batch)
        took = _ask(workers[opened:count], "open", [order] * (count - opened), options.patience)
        slowest = {part: round(max(one[part] for one in took), 1) for part in took[0]}
        seconds = round(time.monotonic() - began, 1)
        _say({"encoder": str(model), "opened": count, "seconds": seconds, "slowest": slowest})
        opened = count
        if not bare:
            batches = options.bare_batch or [8, 32, 64, 128]
            (facts,) = _ask(workers[:1], "bare", [(options.size, batches)], options.patience)
            bare = max(facts["bare"].values())
            facts["bare"] = {batch: round(rate, 1) for batch, rate in facts["bare"].items()}
            facts["million_parameters"] = round(facts["million_parameters"], 1)
            shared |= facts
            shared |= {"bare_frames_per_s": round(bare, 1), "bare_gpu_hours": gpu_hours(bare)}
            _say(shared)
        begin = time.monotonic() + 0.5
        orders = [(worker, begin, options.seconds) for worker in range(count)]
        said = _ask(workers[:count], "run", orders, options.seconds + options.patience)
        rate = sum(one["clips"] for one in said) * options.frames / options.seconds
        whole = sum(one["whole"] for one in said)
        wall, cpu = (_milliseconds(said, kind, whole * options.frames) for kind in ("wall", "cpu"))
        _say(
            {
                **shared,
                "workers": count,
                "cores": cores(),
                "stage_frames_per_s": round(rate, 1),
                "kept": round(rate / bare, 4),
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


@contextmanager
def _workers(count: int) -> Iterator[list[Connection]]:
    """Processes that do as `_depth_worker.serve` says, by their connections; still starting."""
    context = get_context("spawn")  # a fork after OpenGL was used hangs
    started: list[Any] = []
    workers: list[Connection] = []
    try:
        for _ in range(count):
            here, there = context.Pipe()
            # No clips among the arguments: more than a pipe holds (64 KB), and the start waits
            # until the new process has imported all, so that they start one after another.
            process = context.Process(target=_serve, args=(there,), daemon=True)
            process.start()
            there.close()  # so that a dead worker's end is closed
            started.append(process)
            workers.append(here)
        yield workers
        for worker in workers:
            worker.send(None)
        until = time.monotonic() + _GOODBYE
        for process in started:
            process.join(max(0.0, until - time.monotonic()))
    finally:
        for process in started:
            process.kill()


def _serve(orders: Connection) -> None:
    # Imported here: this process needs no torch, whose import would hold up the start of the rest.
    from benchmarks._depth_worker import serve

    serve(orders)


def _ready(workers: list[Connection], patience: float) -> list[Connection]:
    """Those that say within ``patience`` seconds that they have started."""
    ready: list[Connection] = []
    until = time.monotonic() + patience
    while len(ready) < len(workers) and (left := until - time.monotonic()) > 0:
        for one in wait([worker for worker in workers if worker not in ready], left):
            assert isinstance(one, Connection)
            try:
                one.recv()
            except EOFError as error:
                raise RuntimeError("a worker died as it started; see what it said") from error
            ready.append(one)
    return ready


def _ask(
    workers: list[Connection], name: str, arguments: list[tuple[Any, ...]], patience: float
) -> list[Any]:
    """Each worker's answer to an order; they work at once.

    Raises:
        OrderFailed: an answer is a traceback.
        RuntimeError: a worker died, or is silent for longer than ``patience``, in s.
    """
    until = time.monotonic() + patience
    answers = []
    try:
        for worker, order in zip(workers, arguments, strict=True):
            worker.send((name, order))
        for number, worker in enumerate(workers):
            if not worker.poll(max(0.0, until - time.monotonic())):
                raise RuntimeError(f"worker {number} is silent for {patience:g} s after {name}")
            answers.append(worker.recv())
    except (EOFError, OSError) as error:
        raise RuntimeError(f"a worker died at {name}: out of memory? try fewer workers") from error
    for number, (well, answer) in enumerate(answers):
        if not well:
            raise OrderFailed(f"worker {number} at {name}: {answer}")
    return [answer for _, answer in answers]


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
    weights = parse.add_mutually_exclusive_group()
    weights.add_argument("--model", type=Path, help="a checkpoint of ours; its own depth is used")
    weights.add_argument(
        "--random", action="append", metavar="ENCODER", help=f"repeatable ({_SMALL})"
    )
    return parse


if __name__ == "__main__":
    main()
