"""Which of the starts that were followed is taken, and how many agree with it."""

import numpy as np
import pytest

from reconstruction.camera import trail
from reconstruction.camera.estimate import Estimate
from reconstruction.camera.trail import Candidate, Trail


class Followed(Trail):
    """Poses along one axis, in pixels; ends and their measures are given."""

    def __init__(self, tried: dict[Candidate, Candidate]) -> None:
        self.tried, self.ends, self._to, self.matted = list(tried), {}, tried, []

    def gap(self, a: Estimate, b: Estimate) -> float:
        return abs(float(a.pose[0, 3] - b.pose[0, 3]))

    def _ended(self, candidate, rounds):
        self.matted.append((candidate.start, rounds is trail._TO_PIXEL))
        return self._to[candidate]


def at(pixels: float, outline: float, flow: float, start: int | None) -> Candidate:
    pose = np.eye(4)
    pose[0, 3] = pixels
    return Candidate(Estimate(pose, covariance=np.eye(8)), start, outline, flow)


def test_one_that_ends_much_better_is_taken():
    wrong, right = at(0, 0.7, 0.40, 0), at(4, 0.79, 0.35, None)
    followed = Followed({wrong: at(0, 0.70, 0.39, 0), right: at(4, 0.85, 0.35, None)})
    assert followed.best is wrong
    assert followed.chosen() is right
    assert followed.matted == [(0, True), (None, False), (None, True)]


@pytest.mark.parametrize("outline", [0.70, 0.72])
def test_one_that_ends_hardly_better_is_not(outline):
    first, other = at(0, 0.7, 0.40, 0), at(4, 0.69, 0.40, 1)
    followed = Followed({first: at(0, 0.7, 0.40, 0), other: at(4, outline, 0.40, 1)})
    assert followed.chosen() is first
    assert followed.matted == [(0, True), (1, False)]  # the other on its way only


def test_neither_twins_nor_hopeless_ones_are_followed():
    first = at(0, 0.7, 0.4, 0)
    tried = {one: one for one in (first, at(0.5, 0.69, 0.4, 1), at(9, 0.5, 0.3, 2))}
    followed = Followed(tried)
    assert followed.chosen() is first
    assert not followed.matted


def test_one_that_only_looks_better_on_its_way_is_not_taken():
    first, other = at(0, 0.7, 0.40, 0), at(4, 0.69, 0.40, 1)

    class Misled(Followed):
        def _ended(self, candidate, rounds):
            soon = super()._ended(candidate, rounds)
            return soon if rounds is trail._TO_PIXEL else at(4, 0.85, 0.4, candidate.start)

    followed = Misled({first: at(0, 0.7, 0.40, 0), other: at(4, 0.71, 0.40, 1)})
    assert followed.chosen() is first


def test_no_more_than_some_are_compared():
    tried = {one: one for one in (at(3 * i, 0.7 - 0.01 * i, 0.4, i) for i in range(6))}
    followed = Followed(tried)
    followed.chosen()
    assert {start for start, _ in followed.matted} == {0, 1, 2}


def test_starts_that_end_with_another_than_the_best_agree_with_it():
    ends = {at(x, 0.7, 0.4, i): at(x, 0.7, 0.4, i) for i, x in enumerate((0, 0.5, 9, 9.5))}
    shaken = at(9.2, 0.7, 0.4, None)
    followed = Followed(ends | {shaken: at(9, 0.8, 0.4, None)})
    assert len(followed.within(trail.SAME, shaken)) == 2
    assert followed.agreeing_ends(trail.CLOSE, shaken) == 2
