"""Reading RLDS records: ours against TFDS' as_dataset, on real DROID and Bridge episodes.

End to end from the TFRecord files (in the page cache) to numpy, all features, all cameras. Each
row is a process of its own that stays alive; the driver asks them for one pass in turn, so that
all see the same load. Ratios are medians over rounds of (TFDS' documented loop) / (this row).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._common import (
    add_data_option,
    bytes_read,
    cores,
    interleaved,
    parser,
    print_header,
    print_table,
    ratio_of_rounds,
    require_data,
    timed,
    write_json,
)
from converters.rlds import open_rlds
from converters.tfrecord import RecordReader, index_file, read_records

SETS = {"droid": "droid_rlds", "bridge": "bridge_rlds"}
_TFDS = {
    "TFDS as_dataset, nested loop": "nested",
    "TFDS flattened, interleave + batch": "flat",
    "TFDS raw steps + parallel decode map": "raw-map",
}
_TFDS_ENCODED = {
    "TFDS SkipDecoding on images, nested loop": "nested-encoded",
    "TFDS SkipDecoding on steps, whole episodes": "raw-encoded",
}


@dataclass
class Worker:
    """A process that makes one pass over a data set whenever it is asked."""

    command: list[str]

    def __post_init__(self) -> None:
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.last: dict[str, Any] = {}

    def __call__(self) -> float:
        """Seconds of one pass, as the worker measured them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"worker ended: {' '.join(self.command)}; run it by hand to see why")
        self.last = json.loads(line)
        return float(self.last["seconds"])

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def compare(folder: Path, reference: str, repeat: int) -> dict[str, dict[str, dict[str, float]]]:
    """Decoded and encoded passes of every reader over one data set."""
    ours = [sys.executable, "-m", "benchmarks._reader_worker", str(folder)]
    tfds = [reference, str(Path(__file__).with_name("_tfds_worker.py")), str(folder)]
    n = cores()
    groups = {
        "decoded": {
            **{name: [*tfds, mode] for name, mode in _TFDS.items()},
            "ours, 1 thread": [*ours, "decoded", "1"],
            f"ours, {n} threads": [*ours, "decoded", str(n)],
            f"JPEG decoding alone, {n} threads": [*ours, "jpeg", str(n)],
        },
        "encoded": {
            **{name: [*tfds, mode] for name, mode in _TFDS_ENCODED.items()},
            "ours, 1 thread": [*ours, "encoded", "1"],
        },
    }
    report: dict[str, dict[str, dict[str, float]]] = {}
    for group, commands in groups.items():
        workers = {name: Worker(command) for name, command in commands.items()}
        try:
            seconds = interleaved(workers, repeat)
        finally:
            for worker in workers.values():
                worker.close()
        steps = {worker.last["steps"] for worker in workers.values()}
        images = {worker.last["images"] for worker in workers.values()}
        if len(steps) > 1 or len(images) > 1:
            raise SystemExit(f"readers disagree: {steps} steps, {images} images in {folder}")
        last = next(worker.last for name, worker in workers.items() if name.startswith("ours"))
        baseline = seconds[next(iter(commands))]
        report[group] = {
            name: {
                "seconds": statistics.median(times),
                "steps_per_s": last["steps"] / statistics.median(times),
                "episodes_per_s": last["episodes"] / statistics.median(times),
                "ratio": ratio_of_rounds(baseline, times),
                "peak_rss_mb": workers[name].last["rss"] / 1e6,
                "best_seconds": min(times),
                "worst_seconds": max(times),
                "episodes": last["episodes"],
                "steps": last["steps"],
                "images": last["images"],
            }
            for name, times in seconds.items()
        }
    return report


def random_access(
    folder: Path, root: Path, reference: str, repeat: int
) -> dict[str, dict[str, float]]:
    """One encoded record from the middle of the largest file: with an index, and by scanning."""
    dataset = open_rlds(str(folder), [])
    sizes = {file: Path(dataset.url(file)).stat().st_size for _, file, _ in dataset.files}
    file = max(sizes, key=lambda name: sizes[name])
    url = dataset.url(file)
    middle = len(index_file(url).records) // 2
    first = 0  # position of the file's first record in the split, for TFDS
    for _, name, _ in dataset.files:
        if name == file:
            break
        first += len(index_file(dataset.url(name)).records)
    with tempfile.TemporaryDirectory() as cache:
        index_file(url, Path(cache))

        def indexed() -> None:
            span = index_file(url, Path(cache)).records[middle]
            with RecordReader(url) as reader:
                reader.read(span)

        def hop() -> None:
            with RecordReader(url) as reader:
                reader.read(index_file(url).records[middle])

        def scan() -> None:
            for number, _ in enumerate(read_records(url)):
                if number == middle:
                    return

        ways = {
            "ours, index cached": indexed,
            "ours, no index: hop over lengths": hop,
            "ours, reading up to it": scan,
        }
        fetched = {}
        for name, way in ways.items():
            start = bytes_read()
            overhead = bytes_read() - start
            start = bytes_read()
            way()
            fetched[name] = max(0, bytes_read() - start - overhead)
        worker = Worker(
            [
                reference,
                str(Path(__file__).with_name("_tfds_worker.py")),
                str(root),
                f"one:{first + middle}",
            ]
        )
        sides = {**{name: timed(way) for name, way in ways.items()}, "TFDS train[i:i+1]": worker}
        try:
            seconds = interleaved(sides, repeat)
        finally:
            worker.close()
    span = index_file(url).records[middle]
    return {
        name: {
            "ms": 1e3 * statistics.median(times),
            "bytes": fetched.get(name, -1),
            "record_bytes": span.length,
            "file_bytes": sizes[file],
            "record": middle,
            "slower": ratio_of_rounds(times, seconds["ours, index cached"]),
        }
        for name, times in seconds.items()
    }


def main() -> None:
    """Run from the command line."""
    parse = parser(__doc__)
    add_data_option(parse)
    parse.add_argument(
        "--reference",
        required=True,
        metavar="PYTHON",
        help="a Python that has tensorflow and tensorflow-datasets",
    )
    args = parse.parse_args()
    require_data(args.data, *SETS.values())
    report: dict[str, Any] = {"machine": print_header("Reading RLDS"), "sets": {}}
    for name, folder in SETS.items():
        root = next((args.data / folder).glob("*/*/features.json")).parent
        result: dict[str, Any] = dict(compare(root, args.reference, args.repeat))
        for group, rows in result.items():
            some = next(iter(rows.values()))
            print(
                f"### {name}, images {group}: {some['episodes']} episodes, {some['steps']} steps, "
                f"{some['images']} images; median of {args.repeat} interleaved passes\n"
            )
            print_table(
                ["reader", "steps/s", "episodes/s", "against TFDS' loop", "peak RSS MB"],
                [
                    [k, r["steps_per_s"], r["episodes_per_s"], r["ratio"], r["peak_rss_mb"]]
                    for k, r in rows.items()
                ],
            )
        access = random_access(args.data / folder, root, args.reference, args.repeat)
        result["random_access"] = access
        some = access["ours, index cached"]
        print(
            f"### {name}, random access: encoded record {some['record']} "
            f"({some['record_bytes']:,} bytes) of a file of {some['file_bytes']:,} bytes\n"
        )
        print_table(
            ["way", "ms", "bytes read", "share of file", "time against indexed"],
            [
                [
                    k,
                    r["ms"],
                    int(r["bytes"]) if r["bytes"] >= 0 else "",
                    r["bytes"] / r["file_bytes"] if r["bytes"] >= 0 else "",
                    r["slower"],
                ]
                for k, r in access.items()
            ],
        )
        report["sets"][name] = result
    decoded = [result["decoded"] for result in report["sets"].values()]
    print("### both sets one after the other, images decoded\n")
    spent = {reader: sum(rows[reader]["seconds"] for rows in decoded) for reader in decoded[0]}
    loop = next(iter(spent.values()))
    print_table(["reader", "s", "against TFDS' loop"], [[k, s, loop / s] for k, s in spent.items()])
    write_json(args.json, report)


if __name__ == "__main__":
    main()
