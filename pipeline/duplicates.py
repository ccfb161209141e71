"""Episodes that are another one under another id: found by their sketches, reported, never dropped.

``exact``: the same states and the same first frames, bit for bit. ``near``: what a copy looks like
that was encoded, sampled or measured again. Both thresholds must hold:

- paths whose 16 points differ by at most 10 mm (root mean square) and 15 % of the shorter path's
  length: copies of the real samples with 1 mm of noise, at half and at three times the rate stay
  under 7 mm, and different episodes of one scene and task (Bridge, clips of 2 s) are at least
  9.5 mm and 36 % apart, DROID's 240 mm. Of a path that stays within 2 cm nothing can be told.
- first frames of one camera of each whose hashes differ in at most 5 of 64 bits: JPEG at quality 30
  and half or double size change at most 4. Other episodes of one scene may differ by 1: this part
  tells scenes apart, the path tells episodes.

The cost grows with the episodes, not with their pairs: compared are only those that share a cell
of the paths' mean and a part of a hash. Mean positions nearer than the threshold share a cell of
one of 8 shifted grids, and hashes that differ in 5 bits agree in one of 6 parts: none is missed.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from pipeline.sketch import POINTS
from schemas.manifest import DuplicatePair, EpisodeSketch

PATH_MM = 10.0
PATH_SHARE = 0.15
FRAME_BITS = 5
# At least twice the threshold, so that one of two grids half a cell apart does not split a pair.
_CELL_MM = 2 * PATH_MM
_PARTS = tuple(
    (int(bits[0]), (1 << len(bits)) - 1) for bits in np.array_split(np.arange(64), FRAME_BITS + 1)
)


def find_duplicates(sketches: Iterable[EpisodeSketch]) -> list[DuplicatePair]:
    """For each episode that repeats one before it, that one: the first with the same content, else
    the first near one that is no duplicate itself. In the order given.
    """
    first: dict[str, int] = {}
    exact: dict[int, int] = {}
    ids, splits, gathered = [], [], _Gathered()
    for n, sketch in enumerate(sketches):
        ids.append(sketch.episode_id)
        splits.append(sys.intern(sketch.split))
        if (there := first.setdefault(sketch.content, n)) != n:
            exact[n] = there
        gathered.add(n, sketch, n not in exact)
    views = gathered.views()
    del first, gathered
    near = _near(views)
    pairs = []
    for n in sorted(exact.keys() | near.keys()):
        of = exact[n] if n in exact else near[n]
        pairs.append(
            DuplicatePair(
                kind="exact" if n in exact else "near",
                episode_id=ids[n],
                duplicate_of=ids[of],
                split=splits[n],
                split_of_first=splits[of],
                path_mm=0.0 if n in exact else round(float(views.path_mm(n, [of])[0]), 1),
                frame_bits=0 if n in exact else views.frame_bits(n, of),
            )
        )
    return pairs


@dataclass(frozen=True)
class _Views:
    """Camera views of episodes, as arrays.

    Attributes:
        paths: (N, 16, 3) mm, of every episode.
        lengths: (N,) mm.
        owner: (V,) episode of each view, ascending.
        hashes: (V,) uint64 of each view.
    """

    paths: NDArray[np.float32]
    lengths: NDArray[np.float32]
    owner: NDArray[np.int64]
    hashes: NDArray[np.uint64]

    def path_mm(self, n: int, others: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Root mean square distance of an episode's 16 points from each other's."""
        gap = self.paths[others] - self.paths[n]
        distance: NDArray[np.float32] = np.sqrt(np.square(gap).sum(axis=2).mean(axis=1))
        return distance

    def frame_bits(self, n: int, other: int) -> int:
        """Fewest differing bits over the views of two episodes."""
        mine, theirs = (
            self.hashes[slice(*np.searchsorted(self.owner, [k, k + 1]))] for k in (n, other)
        )
        return int(np.bitwise_count(mine[:, None] ^ theirs).min())


class _Gathered:
    """Sketches as they come, a tenth of what they are as objects."""

    def __init__(self) -> None:
        self._paths, self._owner, self._hashes = bytearray(), array("q"), array("Q")

    def add(self, episode: int, sketch: EpisodeSketch, compared: bool) -> None:
        self._paths += bytes.fromhex(sketch.path)
        for found in sketch.frames.values() if compared else ():
            self._owner.append(episode)
            self._hashes.append(int(found, 16))

    def views(self) -> _Views:
        """Those that can be compared."""
        paths = np.frombuffer(self._paths, "<i2").astype(np.float32).reshape(-1, POINTS, 3)
        lengths = np.linalg.norm(np.diff(paths, axis=1), axis=2).sum(axis=1)
        owner = np.frombuffer(self._owner, np.int64)
        moves = lengths[owner] > 0
        return _Views(paths, lengths, owner[moves], np.frombuffer(self._hashes, np.uint64)[moves])


def _near(views: _Views) -> dict[int, int]:
    """{episode: the first that it is near to}, where that one is near to none before it."""
    leaders: dict[int, list[int]] = {}  # bucket: views of episodes that repeat none
    found: dict[int, int] = {}
    members, buckets = _buckets(views)
    starts = np.flatnonzero(np.diff(views.owner[members], prepend=-1))
    for start, end in pairwise([*starts.tolist(), len(members)]):
        episode = int(views.owner[members[start]])
        mine = list(zip(members[start:end].tolist(), buckets[start:end].tolist(), strict=True))
        of = _match(views, episode, {(v, there) for v, b in mine for there in leaders.get(b, ())})
        if of is not None:
            found[episode] = of
            continue
        for view, bucket in mine:
            leaders.setdefault(bucket, []).append(view)
    return found


def _match(views: _Views, episode: int, pairs: set[tuple[int, int]]) -> int | None:
    if not pairs:
        return None
    mine, theirs = np.array(sorted(pairs)).T
    alike = np.bitwise_count(views.hashes[mine] ^ views.hashes[theirs]) <= FRAME_BITS
    others = np.unique(views.owner[theirs[alike]])
    limit = PATH_SHARE * np.minimum(views.lengths[others], views.lengths[episode])
    close = others[views.path_mm(episode, others) <= np.minimum(limit, PATH_MM)]
    return int(close[0]) if len(close) else None


def _buckets(views: _Views) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(views, their buckets) by view, leaving out what is alone in its bucket."""
    members, buckets, count = [], [], 0
    centres = views.paths.mean(axis=1)[views.owner]
    for shifted in product((0.0, 0.5), repeat=3):
        # 16 bits a number; what shares one 1300 m away is told apart later.
        cells = np.floor(centres / _CELL_MM + shifted).astype(np.int64).astype(np.uint16)
        place = np.zeros(len(cells), np.uint64)
        for axis in cells.T:
            place = place << np.uint64(16) | axis
        for low, mask in _PARTS:
            key = place << np.uint64(16) | (views.hashes >> np.uint64(low)) & np.uint64(mask)
            _, inverse, size = np.unique(key, return_inverse=True, return_counts=True)
            shared = np.flatnonzero(size[inverse] > 1)
            # There are many, but never 2^31: 48 buckets a view.
            members.append(shared.astype(np.int32))
            buckets.append((inverse[shared] + count).astype(np.int32))
            count += len(size)
    all_members, all_buckets = np.concatenate(members), np.concatenate(buckets)
    order = np.argsort(all_members, kind="stable")
    return all_members[order], all_buckets[order]
