"""`robo4d bench`: how good what the product estimates is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from jobs import _show
from jobs._cli_data import open_build
from jobs._options import explained

bench = typer.Typer(no_args_is_help=True, help="Measure how good estimates are.")


@bench.callback()
def _sections() -> None:
    """Measure how good estimates are."""


@bench.command()
def depth(
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            "-d",
            help="libero, twin:SOURCE, SOURCE=DIR, or a build; may be repeated",
        ),
    ],
    backends: Annotated[
        list[str] | None,
        typer.Option("--backend", "-b", help="depth backend or baseline; may be repeated"),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="checkpoint of a backend that takes one")
    ] = None,
    alignments: Annotated[
        list[str] | None,
        typer.Option("--alignment", "-a", help="metric, scale_clip, ..., robot; may be repeated"),
    ] = None,
    max_clips: Annotated[
        int, typer.Option(min=1, help="of each data, spread over its episodes and cameras")
    ] = 8,
    camera: Annotated[str, typer.Option(help="only cameras with this in their names")] = "",
    frames: Annotated[
        int | None, typer.Option(min=1, help="of each clip, the first; default: all")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(help="folder for a sheet of each clip, in the first alignment that it has"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON list of objects")] = False,
) -> None:
    """Judge depth backends by a simulator's truth, and by the robot's surface where there is none.

    Every row says how depth was brought to metres before it was judged: metric, as it is;
    scale_clip and scale_frame, times the median of truth over estimate; scale_shift_clip and
    scale_shift_frame, least squares, of inverse depth where the estimate is that; robot, anchored
    to forward kinematics, without the truth. What means nothing for a backend or clip is left out.

    Baselines: constant; plane, a level plane seen by K alone; base_plane, that on which the robot
    stands; plane_fit, fitted to the truth; simulator, the truth itself. NETWORK_alone is not told
    of the robot; pointmap_single sees each frame without the clip's first one; pointmap_untrained
    has random weights.

    DATA: libero is fresh rollouts (libero=DIR: demonstrations), twin:SOURCE a twin, SOURCE=DIR
    real data with solved cameras; they are built in the cache on first use.
    """
    from jobs._bench import picture_writer, print_board
    from jobs._bench_inputs import bench_folder
    from qa.depth_alignment import check_alignments
    from qa.depth_backends import DEFAULT_BACKENDS, open_backends
    from qa.depth_board import run_board
    from qa.depth_clips import choose_samples, read_clips

    rows = []
    with explained():
        ways = check_alignments(alignments or [])
        opened = open_backends(backends or DEFAULT_BACKENDS, model)
        for one in data:
            folder = bench_folder(one)
            look = None if pictures is None else picture_writer(pictures, one)
            with explained(folder), _show.progress() as shown:
                samples = choose_samples(open_build(folder), max_clips, camera)
                bar = shown.add_task(f"judging {one}", total=len(samples))
                clips = shown.track(read_clips(samples, frames), task_id=bar)
                rows += run_board(one, clips, opened, ways, look)
    if as_json:
        print(json.dumps([row.describe() for row in rows]))
    else:
        print_board(rows)
