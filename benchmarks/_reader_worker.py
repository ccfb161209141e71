"""Our side of `benchmarks.reading`: the same protocol as `_tfds_worker`, without TensorFlow.

Usage: ``python -m benchmarks._reader_worker FOLDER MODE THREADS``, MODE ``decoded``, ``encoded`` or
``jpeg``. An episode is read, checked, parsed, its images decoded, and dropped before the next.
``jpeg`` only decodes images that are in memory already: what no reader can go below.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from numpy.typing import NDArray

from converters.rlds import RldsDataset, decode_record, open_rlds
from converters.tfrecord import RecordReader, index_file, read_records
from schemas.images import decode_image

# Frames that a thread takes at once: one at a time, handing over costs as much as decoding.
_CHUNK = 16
_AHEAD = 8  # chunks that may wait, so that the next record is parsed while these decode


def _decode_all(frames: list[bytes]) -> list[NDArray]:
    return [decode_image(data) for data in frames]


def read_once(
    dataset: RldsDataset, decode: bool, pool: ThreadPoolExecutor | None
) -> tuple[int, int, int]:
    """One pass over all records; returns episodes, steps and images."""
    names = [name for name, feature in dataset.features.items() if feature.kind == "image"]
    episodes = steps = images = 0
    running: deque[Future[list[NDArray]]] = deque()
    for split, file, _ in dataset.files:
        url = dataset.url(file)
        with RecordReader(url) as reader:
            for number, span in enumerate(index_file(url).records):
                payload = reader.read(span)
                record = decode_record(payload, dataset.features, split, file, number)
                episodes, steps = episodes + 1, steps + record.steps
                frames = [data for name in names for data in record[name]]
                if not decode:
                    images += len(frames)
                    continue
                for i in range(0, len(frames), _CHUNK):
                    if pool is None:
                        images += len(_decode_all(frames[i : i + _CHUNK]))
                        continue
                    running.append(pool.submit(_decode_all, frames[i : i + _CHUNK]))
                    if len(running) > _AHEAD:  # handed on in order and dropped, as TFDS' loop does
                        images += len(running.popleft().result())
    return episodes, steps, images + sum(len(future.result()) for future in running)


def load_frames(dataset: RldsDataset) -> tuple[int, int, list[list[bytes]]]:
    """Episodes, steps, and every encoded image in chunks."""
    names = [name for name, feature in dataset.features.items() if feature.kind == "image"]
    episodes, steps, frames = 0, 0, []
    for split, file, _ in dataset.files:
        for number, payload in enumerate(read_records(dataset.url(file))):
            record = decode_record(payload, dataset.features, split, file, number)
            episodes, steps = episodes + 1, steps + record.steps
            frames += [data for name in names for data in record[name]]
    return episodes, steps, [frames[i : i + _CHUNK] for i in range(0, len(frames), _CHUNK)]


def decode_once(chunks: list[list[bytes]], pool: ThreadPoolExecutor | None) -> int:
    """Decode every image and drop it; returns how many."""
    return sum(len(part) for part in (pool.map if pool else map)(_decode_all, chunks))


def main() -> None:
    """Serve passes until stdin ends."""
    folder, mode, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    dataset = open_rlds(folder, [])
    pool = ThreadPoolExecutor(threads) if threads > 1 else None
    loaded = load_frames(dataset) if mode == "jpeg" else None
    for _ in sys.stdin:
        start = time.perf_counter()
        if loaded is not None:
            episodes, steps, images = loaded[0], loaded[1], decode_once(loaded[2], pool)
        else:
            episodes, steps, images = read_once(dataset, mode == "decoded", pool)
        seconds = time.perf_counter() - start
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer = {
            "seconds": seconds,
            "episodes": episodes,
            "steps": steps,
            "images": images,
            "rss": rss,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
