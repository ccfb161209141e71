"""Frames a second of the pointmap network's bare forward pass, by encoder and picture size.

    python -m benchmarks.depth_speed --batch 32

Weights are random: speed does not depend on them. Half precision on a GPU, as in builds; a clip's
reference is looked at once, as there. Times are by device events where there is a GPU, medians of
runs after a warm-up.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch

from reconstruction.depth.pointmap.network import NetworkConfig, PointmapNetwork

ENCODERS = (
    "tf_efficientnet_lite0",
    "vit_small_patch16_224",
    "vit_base_patch16_224",
    "vit_large_patch16_224",
)
SIZES = ((256, 320), (480, 704))


def main() -> None:
    """One JSON line an encoder and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", action="append", help="of timm; default: those of the README")
    parser.add_argument("--batch", type=int, default=32, help="frames at once")
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    for encoder in options.encoder or ENCODERS:
        network = PointmapNetwork(NetworkConfig(encoder=encoder)).eval()
        network = network.to(device, memory_format=torch.channels_last)
        parameters = sum(p.numel() for p in network.parameters())
        for size in SIZES:
            seconds = forward_seconds(network, size, options.batch, options.runs, device)
            line = {
                "device": name,
                "encoder": encoder,
                "million_parameters": round(parameters / 1e6, 1),
                "size": list(size),
                "frames_per_s": round(options.batch / seconds, 1),
            }
            print(json.dumps(line), flush=True)


@torch.inference_mode()
def forward_seconds(
    network: PointmapNetwork, size: tuple[int, int], batch: int, runs: int, device: torch.device
) -> float:
    """Seconds of a batch's forward pass, of a clip whose reference is known: median of ``runs``.

    Args:
        size: (height, width) in pixels, multiples of the network's.
    """
    frames = torch.rand(batch, 3, *size, device=device).contiguous(
        memory_format=torch.channels_last
    )
    K = torch.tensor([[300.0, 0, 160], [0, 300, 128], [0, 0, 1]], device=device)
    K, known = K.expand(batch, 3, 3), torch.ones(batch, dtype=torch.bool, device=device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        memory = network.remember(network.see(frames[:1], K[:1], known[:1])[0])
        memory = memory.expand(batch, -1, -1)
        seconds = []
        for run in range(runs + 3):
            began, ended = _now(device), None
            network.tell(network.see(frames, K, known), memory)
            ended = _now(device)
            if run >= 3:
                seconds.append(_between(began, ended))
    return statistics.median(seconds)


def _now(device: torch.device) -> torch.cuda.Event | float:
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(began: torch.cuda.Event | float, ended: torch.cuda.Event | float) -> float:
    if isinstance(began, float) or isinstance(ended, float):
        return float(ended) - float(began)  # type: ignore[arg-type]
    ended.synchronize()
    return began.elapsed_time(ended) / 1000


if __name__ == "__main__":
    main()
