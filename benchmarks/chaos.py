"""Builds disturbed in every way end in the bytes of the undisturbed one: nothing lost or doubled.

``python -m benchmarks.chaos --seed 0 --kills 100 --json chaos.json``. First one process is killed
at every place where it writes, and at as many random moments (`benchmarks._chaos_points`). Then
rounds of the real command: each builds into a fresh folder and is disturbed up to three times on
the way, a worker or the driver killed, a node of a Ray cluster taken away, requests to S3 failed,
the disk filled up. After each disturbance every file under a final name must be whole; what ended
is started again; at the end every byte is compared, and `verify` counts episodes. ``--only KIND``
runs one kind, named in the table.

Linux; full_disk mounts a tmpfs, so it needs root.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from benchmarks._chaos_build import (
    REPO,
    Data,
    contents,
    environment,
    hashes,
    make_data,
    wrong_result,
)
from benchmarks._chaos_points import Point, every_point, random_moments
from benchmarks._chaos_rounds import Chaos, Round
from benchmarks._common import parser, print_header, print_table, write_json
from pipeline.store import Store

# Share of the kills that each kind gets.
KINDS = {
    "local worker": 22,
    "local driver": 20,
    "local sigterm": 8,
    "full_disk": 6,
    "s3 faults": 4,
    "s3 driver": 6,
    "beam worker": 9,
    "beam driver": 6,
    "ray worker": 9,
    "ray driver": 5,
    "ray node": 5,
}
_PER_ROUND = 3  # disturbances of one build at most


def rounds(chaos: Chaos, kinds: Mapping[str, int]) -> Iterator[Round]:
    """Rounds until every kind had its number of disturbances."""
    for kind, wanted in kinds.items():
        number = 0
        while wanted > 0:
            done = chaos.run(kind, number, min(wanted, _PER_ROUND))
            wanted -= max(done.disturbances, 1)  # one that came too late is not tried for ever
            number += 1
            yield done


def undisturbed(data: Data, folder: Path) -> tuple[dict[str, str], float]:
    """Hashes of the build that all others are compared with, and its seconds."""
    out = folder / "expected"
    began = time.monotonic()
    subprocess.run(
        data.command(str(out), "local", 2),
        cwd=REPO,
        env=environment(folder / "cache"),
        check=True,
        capture_output=True,
    )
    seconds = time.monotonic() - began
    store = Store.at(str(out))
    expected = hashes(contents(store))
    if wrong := wrong_result(data, store, expected):
        raise SystemExit(f"the undisturbed build is wrong: {wrong}")
    return expected, seconds


def _table(done: Sequence[Round]) -> None:
    rows = []
    for kind in dict.fromkeys(one.kind for one in done):
        mine = [one for one in done if one.kind == kind]
        orphans = [s for one in mine for s in one.orphans_s]
        rows.append(
            [
                kind,
                len(mine),
                sum(one.disturbances for one in mine),
                sum(one.restarts for one in mine),
                max(orphans) if orphans else "",
                sum(bool(one.wrong) for one in mine),
            ]
        )
    print_table(
        ["kind", "builds", "disturbances", "restarts", "orphans, s at most", "failures"], rows
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 1 where a round failed."""
    parse = parser(__doc__)
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--kills", type=int, default=100, help="disturbances in all (100)")
    parse.add_argument("--episodes", type=int, default=12, help="of the data set (12)")
    parse.add_argument("--only", action="append", choices=["points", *KINDS], help="of the kinds")
    args = parse.parse_args(argv)
    facts = print_header("Builds killed in every way")
    only = args.only or ["points", *KINDS]
    chosen = {kind: share for kind, share in KINDS.items() if kind in only}
    in_all = sum(chosen.values())
    kinds = {kind: max(1, round(args.kills * n / in_all)) for kind, n in chosen.items()}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="robo4d-chaos-")))
        points: list[Point] = []
        if "points" in only:
            points += every_point(folder / "points", 4)
            points += random_moments(folder / "random", args.episodes, args.kills, args.seed)
        failed = [point for point in points if point.wrong]
        for where, n in Counter(point.where for point in points).items():
            print(f"one process killed, {where}: {n}")
        if points:
            print(f"failures: {len(failed)}\n", flush=True)
        done: list[Round] = []
        if kinds:
            data = make_data(folder / "data", args.episodes)
            expected, seconds = undisturbed(data, folder)
            chaos = Chaos(data, folder, expected, seconds, stack, args.seed)
            for one in rounds(chaos, kinds):
                done.append(one)
                print(json.dumps(asdict(one)), flush=True)
            _table(done)
    write_json(
        args.json,
        {
            "machine": facts,
            "points": [asdict(point) for point in points],
            "rounds": [asdict(one) for one in done],
        },
    )
    return int(bool(failed) or any(one.wrong for one in done))


if __name__ == "__main__":
    sys.exit(main())
