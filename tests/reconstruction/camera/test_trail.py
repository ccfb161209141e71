"""Which of the starts that were followed is taken, and how many agree with it."""

from types import SimpleNamespace

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


class Led(Followed):
    """Masks lead by given steps; what comes of it is measured as given."""

    def __init__(self, monkeypatch, pixels: list[float], outline: float, lost: bool = False):
        self.end_of_it = at(0, 0.8, 0.5, 0)
        super().__init__({self.end_of_it: self.end_of_it})
        self.ends = {self.end_of_it: self.end_of_it}
        self.asked_at, self.outline = [], outline
        self.lens = SimpleNamespace(K=np.eye(3), spread=0.0)
        self.frames = SimpleNamespace(shares=None, ask=self.ask)
        steps = iter(pixels)

        def refine(frames, begin, K, spread, rounds, rng):
            assert not any(turn.images for turn in rounds)
            moved = at(begin.pose[0, 3] + next(steps), 0, 0, None).estimate
            return Estimate(moved.pose) if lost else moved

        monkeypatch.setattr(trail, "refine", refine)

    def ask(self, masks, K, pose, late, count):
        self.asked_at.append(pose[0, 3])
        self.frames.shares = "masks"

    def _measured(self, estimate, start):
        if estimate.covariance is None:
            return Candidate(estimate, start, 0.0, 0.0)
        return Candidate(estimate, start, self.outline, 0.5)


def test_masks_lead_on_and_are_asked_again_where_they_led(monkeypatch):
    followed = Led(monkeypatch, [5.0, 1.0], outline=0.75)
    led, agreeing = followed._led(followed.end_of_it, 3, "masks")
    assert followed.asked_at == [0.0, 5.0]
    assert led.estimate.pose[0, 3] == 6.0
    assert agreeing == 3  # those that ended with it are led with it
    assert followed.frames.shares is not None


def test_masks_that_move_nothing_are_asked_once(monkeypatch):
    followed = Led(monkeypatch, [0.2], outline=0.8)
    led, _ = followed._led(followed.end_of_it, 3, "masks")
    assert followed.asked_at == [0.0]
    assert led.estimate.pose[0, 3] == pytest.approx(0.2)


def test_a_camera_that_masks_lead_far_away_is_no_longer_that_of_its_starts(monkeypatch):
    followed = Led(monkeypatch, [20.0, 0.1], outline=0.8)
    assert followed._led(followed.end_of_it, 3, "masks")[1] == 0


@pytest.mark.parametrize("lost", [False, True])
def test_masks_that_images_contradict_are_dropped(lost, monkeypatch):
    followed = Led(monkeypatch, [5.0, 0.1], outline=0.8 if lost else 0.6, lost=lost)
    assert followed._led(followed.end_of_it, 3, "masks") == (followed.end_of_it, 3)
    assert followed.frames.shares is None


def test_a_lost_camera_is_none_even_beside_one_that_nothing_confirms(monkeypatch):
    followed = Led(monkeypatch, [5.0], outline=0.0, lost=True)
    bare = at(0, 0.0, 0.0, 0)
    assert followed._led(bare, 2, "masks") == (bare, 2)
