"""Codec candidates for depth and RGB: the measurements behind the published format.

Depth is rendered (a Panda over a table), clean and with noise of sigma 1.5 mm x z^2 and holes at
edges: no recording of a metric depth sensor is at hand. RGB is real DROID frames, as their
JPEGs decode. Speeds are of one core, every codec in turn in each round, medians of the rounds.
"""

from __future__ import annotations

import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._candidates import Codec, depth_codecs, rgb_codecs
from benchmarks._common import (
    add_data_option,
    interleaved,
    one_core,
    parser,
    print_header,
    print_table,
    require_data,
    timed,
    write_json,
)
from benchmarks._scene import FRAMES, SIZES, add_noise, render_clip
from converters.rlds import decode_record, open_rlds
from converters.tfrecord import read_records
from robo4d import depth_bound
from schemas.images import decode_image

_BINS = (1.0, 2.0)  # m; a bin is 2 % to either side


def _speeds(
    codecs: list[Codec], clip: NDArray, repeat: int
) -> tuple[dict[str, bytes], dict[str, float], dict[str, float]]:
    """Encoded bytes, and median seconds of encoding and decoding, by codec."""
    encoded = {codec.name: codec.encode(clip) for codec in codecs}
    encode = interleaved(
        {c.name: timed(partial(c.encode, clip)) for c in codecs}, repeat, warm=False
    )
    decode = interleaved(
        {c.name: timed(partial(c.decode, encoded[c.name])) for c in codecs}, repeat
    )
    return (
        encoded,
        {name: statistics.median(times) for name, times in encode.items()},
        {name: statistics.median(times) for name, times in decode.items()},
    )


def measure_depth(depth: NDArray[np.float32], repeat: int) -> list[dict[str, Any]]:
    """Every depth codec on one clip."""
    codecs = depth_codecs()
    encoded, encode_s, decode_s = _speeds(codecs, depth, repeat)
    known = depth > 0
    rows = []
    for codec in codecs:
        back = codec.decode(encoded[codec.name])
        error = np.abs(back.astype(np.float64) - depth)
        worst = {
            f"max_mm_at_{at:g}m": 1e3 * float(error[np.abs(depth - at) < 0.02 * at].max())
            for at in _BINS
        }
        rows.append(
            {
                "codec": codec.name,
                "bytes": len(encoded[codec.name]),
                "bits_per_pixel": 8 * len(encoded[codec.name]) / depth.size,
                "encode_mb_s": depth.nbytes / 1e6 / encode_s[codec.name],
                "decode_mb_s": depth.nbytes / 1e6 / decode_s[codec.name],
                **worst,
                "within_bound": bool((error <= depth_bound(depth))[known].all()),
                "holes_exact": bool(np.array_equal(back == 0, ~known)),
            }
        )
    return rows


def droid_clips(data: Path, count: int) -> list[NDArray[np.uint8]]:
    """The first frames of real DROID episodes, cameras in turn, as (T, H, W, 3)."""
    dataset = open_rlds(str(data / "droid_rlds"), [])
    names = sorted(name for name, f in dataset.features.items() if f.kind == "image")
    clips: list[NDArray[np.uint8]] = []
    for split, file, _ in dataset.files:
        for number, payload in enumerate(read_records(dataset.url(file))):
            record = decode_record(payload, dataset.features, split, file, number)
            if record.steps >= FRAMES:
                frames = record[names[len(clips) % len(names)]][:FRAMES]
                clips.append(np.stack([decode_image(f) for f in frames]))
            if len(clips) == count:
                return clips
    return clips


def measure_rgb(clips: list[NDArray[np.uint8]], repeat: int) -> list[dict[str, Any]]:
    """Every RGB codec over all clips: mean bytes and PSNR, frames/s over the total time."""
    codecs = rgb_codecs()
    total: dict[str, dict[str, float]] = {}
    for clip in clips:
        encoded, encode_s, decode_s = _speeds(codecs, clip, repeat)
        for codec in codecs:
            back = codec.decode(encoded[codec.name])
            mse = float(np.mean((back.astype(np.float32) - clip) ** 2))
            for key, value in (
                ("bytes", len(encoded[codec.name])),
                ("psnr", 10 * np.log10(255**2 / mse)),
                ("encode_s", encode_s[codec.name]),
                ("decode_s", decode_s[codec.name]),
            ):
                row = total.setdefault(codec.name, {})
                row[key] = row.get(key, 0.0) + value
    frames = sum(len(clip) for clip in clips)
    return [
        {
            "codec": name,
            "bytes": round(row["bytes"] / len(clips)),
            "psnr": float(row["psnr"] / len(clips)),
            "encode_frames_s": frames / row["encode_s"],
            "decode_frames_s": frames / row["decode_s"],
        }
        for name, row in total.items()
    ]


def main() -> None:
    """Run from the command line."""
    parse = parser(__doc__)
    parse.set_defaults(repeat=5)
    add_data_option(parse)
    parse.add_argument("--clips", type=int, default=4, help="real DROID clips for RGB (4)")
    args = parse.parse_args()
    require_data(args.data, "droid_rlds")
    report: dict[str, Any] = {"machine": print_header("Depth and RGB codecs"), "depth": {}}
    report["how"] = one_core()
    print(f"{report['how']}; medians of {args.repeat} interleaved rounds; MB of float32 depth\n")
    for height, width in SIZES:
        clean = render_clip(height, width).depth
        for kind, depth in (("clean", clean), ("noisy", add_noise(clean))):
            name = f"{FRAMES} frames {height}x{width}, rendered, {kind}"
            rows = measure_depth(depth, args.repeat)
            report["depth"][name] = rows
            print(f"### Depth, {name}: float32 {depth.nbytes:,} bytes\n")
            print_table(
                [
                    "codec",
                    "bytes",
                    "bits/pixel",
                    "encode MB/s",
                    "decode MB/s",
                    *(f"max mm at {at:g} m" for at in _BINS),
                    "within the bound",
                    "holes exact",
                ],
                [
                    [("yes" if v else "no") if isinstance(v, bool) else v for v in row.values()]
                    for row in rows
                ],
            )
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        print("imagecodecs is not installed: HTJ2K and JPEG XL were left out", file=sys.stderr)
    clips = droid_clips(args.data, args.clips)
    report["rgb"] = measure_rgb(clips, args.repeat)
    _, height, width, _ = clips[0].shape
    print(f"### RGB, {len(clips)} real DROID clips of {FRAMES} frames {height}x{width}, means\n")
    print_table(
        ["codec", "bytes a clip", "PSNR dB", "encode frames/s", "decode frames/s"],
        [list(row.values()) for row in report["rgb"]],
    )
    write_json(args.json, report)


if __name__ == "__main__":
    main()
