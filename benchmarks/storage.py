"""Bytes of a 49-frame clip in several layouts, and the rate at which clips come back as arrays.

Clips are rendered (see `_scene`); depth is noisy, sigma 1.5 mm x z^2, unless said otherwise.
Rates are of RGB, depth and robot depth together, one process and one core (``--all-cores`` lifts
that), every reader in turn in each round. Cold means: every file synced and dropped from the page
cache by posix_fadvise before each pass, and mincore asked what is left of it.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import _kinema4d, _tars
from benchmarks._common import (
    cores,
    interleaved,
    one_core,
    parser,
    print_header,
    print_table,
    ratio_of_rounds,
    timed,
    write_json,
)
from benchmarks._scene import FRAMES, SIZES, Clip, add_noise, render_clip
from robo4d import decode_member
from robo4d.geometry import unproject

_FIFTH = 0.2  # the aim: at most this share of float16 XYZ


def measure_bytes(clips: list[Clip], noisy: bool) -> list[dict[str, Any]]:
    """Mean bytes of a clip in each layout, against float16 XYZ, and the XYZ's error in m."""
    sizes: dict[str, list[int]] = {}
    errors: dict[str, list[NDArray[np.float32]]] = {}
    for clip in clips:
        depth = add_noise(clip.depth) if noisy else clip.depth
        truth = unproject(depth, clip.K)
        members = _tars.encode_ours(clip, depth)
        ours = unproject(decode_member("depth.r4a", members["depth.r4a"]), clip.K)
        found = {
            "float16 XYZ of the scene alone": (6 * depth.size, truth.astype(np.float16)),
            "ours: depth alone": (len(members["depth.r4a"]), ours),
            "ours: RGB": (len(members["rgb.mp4"]), None),
            "ours: the whole sample": (sum(map(len, members.values())), ours),
        }
        for codec in _kinema4d.CODECS:
            layout = _kinema4d.encode_layout(clip, depth, codec)
            found[f"Kinema4D's layout, {codec}: pointmap alone"] = (
                len(layout.files["pointmap"]),
                _kinema4d.decode_points(layout),
            )
            found[f"Kinema4D's layout, {codec}: five mp4 files"] = (
                sum(map(len, layout.files.values())),
                None,
            )
        known = np.isfinite(truth[..., 2])
        for name, (size, points) in found.items():
            sizes.setdefault(name, []).append(size)
            if points is not None:
                gap = np.linalg.norm(points[known].astype(np.float32) - truth[known], axis=-1)
                errors.setdefault(name, []).append(gap[::7])  # a sample is enough for quantiles
    whole = statistics.mean(sizes["float16 XYZ of the scene alone"])
    rows = []
    for name, of_clips in sizes.items():
        gap = np.concatenate(errors[name]) if name in errors else None
        rows.append(
            {
                "layout": name,
                "bytes": round(statistics.mean(of_clips)),
                "share": statistics.mean(of_clips) / whole,
                "median_mm": 1e3 * float(np.median(gap)) if gap is not None else "",
                "p95_mm": 1e3 * float(np.quantile(gap, 0.95)) if gap is not None else "",
                "max_mm": 1e3 * float(gap.max()) if gap is not None else "",
            }
        )
    return rows


def measure_rates(
    clips: list[Clip], count: int, repeat: int, folder: Path
) -> tuple[dict[str, dict[str, Any]], float]:
    """Clips/s of every reader, warm and cold; and the largest share left in the cache when cold."""
    depths = [add_noise(clip.depth) for clip in clips]
    pairs = list(zip(clips, depths, strict=True))
    tars: dict[str, Path] = {}
    for name, encode in (
        ("ours", _tars.encode_ours),
        ("npz", partial(_tars.encode_npz, packed=True)),
        ("raw", partial(_tars.encode_npz, packed=False)),
    ):
        tars[name] = folder / f"{name}.tar"
        _tars.write_tar(tars[name], [encode(*pair) for pair in pairs], count)
    readers: dict[str, tuple[Path, Callable[[Path], int]]] = {
        "webdataset, npz compressed": (tars["npz"], _tars.read_npz),
        "webdataset, npz uncompressed": (tars["raw"], _tars.read_npz),
        "robo4d.open(shard)[i].load(...)": (tars["ours"], _tars.read_indexed),
        "webdataset over our tar, three members": (
            tars["ours"],
            partial(_tars.read_streamed, select=True),
        ),
        "webdataset over our tar, all members": (
            tars["ours"],
            partial(_tars.read_streamed, select=False),
        ),
    }
    left = 0.0

    def cold(path: Path, read: Callable[[Path], int]) -> float:
        nonlocal left
        left = max(left, _tars.drop_from_cache([path, _tars.index_path(path)]))
        return timed(partial(_read_all, read, path, count))()

    sides = {name: timed(partial(_read_all, r, p, count)) for name, (p, r) in readers.items()}
    warm_s = interleaved(sides, repeat)
    cold_s = interleaved({k: partial(cold, p, r) for k, (p, r) in readers.items()}, repeat, False)
    baseline = next(iter(readers))
    report = {
        name: {
            "tar_bytes_per_clip": path.stat().st_size // count,
            "cold_clips_s": count / statistics.median(cold_s[name]),
            "cold_ratio": ratio_of_rounds(cold_s[baseline], cold_s[name]),
            "warm_clips_s": count / statistics.median(warm_s[name]),
            "warm_ratio": ratio_of_rounds(warm_s[baseline], warm_s[name]),
            "cold_s": cold_s[name],
            "warm_s": warm_s[name],
        }
        for name, (path, _) in readers.items()
    }
    return report, left


def _read_all(read: Callable[[Path], int], path: Path, count: int) -> None:
    got = read(path)
    if got != count:
        raise SystemExit(f"{path} gave {got} clips; expected {count}")


def main() -> None:
    """Run from the command line."""
    parse = parser(__doc__)
    parse.set_defaults(repeat=5)
    parse.add_argument("--clips", type=int, default=16, help="clips in each tar (16)")
    parse.add_argument(
        "--scenes", type=int, default=4, help="different clips among them, used in turn (4)"
    )
    parse.add_argument("--all-cores", action="store_true", help="do not pin to one core")
    parse.add_argument(
        "--folder", type=Path, help="where the tars go for the time of the run (system's temporary)"
    )
    args = parse.parse_args()
    report: dict[str, Any] = {"machine": print_header("Storage"), "bytes": {}, "rates": {}}
    report["how"] = (
        f"one process, codecs free to use {cores()} cores" if args.all_cores else one_core()
    )
    for height, width in SIZES:
        size = f"{FRAMES} frames {height}x{width}"
        clips = [render_clip(height, width, seed) for seed in range(args.scenes)]
        for kind in ("clean", "noisy"):
            rows = measure_bytes(clips, noisy=kind == "noisy")
            report["bytes"][f"{size}, {kind}"] = rows
            print(f"### Bytes, {size}, depth {kind}, mean of {args.scenes} clips\n")
            print_table(
                [
                    "layout",
                    "bytes a clip",
                    "of float16 XYZ",
                    "XYZ error median mm",
                    "p95 mm",
                    "max mm",
                ],
                [list(row.values()) for row in rows],
            )
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            rates, left = measure_rates(clips, args.clips, args.repeat, Path(folder))
        report["rates"][size] = {"readers": rates, "left_in_cache": left}
        print(
            f"### Clips/s, {size}, depth noisy: {args.clips} clips in one tar; {report['how']}; "
            f"medians of {args.repeat} interleaved passes; cold: at most {100 * left:.1f} % of "
            "pages in the cache before a pass\n"
        )
        print_table(
            ["reader", "tar bytes a clip", "cold clips/s", "against npz", "warm", "against npz"],
            [[name, *list(row.values())[:5]] for name, row in rates.items()],
        )
    ours = report["bytes"][f"{FRAMES} frames {SIZES[-1][0]}x{SIZES[-1][1]}, noisy"]
    share = next(row["share"] for row in ours if row["layout"] == "ours: the whole sample")
    print(f"Whole sample, noisy, largest size: {share:.3f} of float16 XYZ (aim: {_FIFTH})")
    write_json(args.json, report)


if __name__ == "__main__":
    main()
