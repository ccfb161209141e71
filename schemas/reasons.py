"""Why an episode is set aside, and the two errors that tell bad data from bad use.

EpisodeError   one episode is bad: it is quarantined with its reason and the build goes on
UsageError     the command or the configuration is wrong: the build stops before it starts
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import StrEnum


class Reason(StrEnum):
    """Every reason for quarantine there is; the manifest counts by these."""

    TRUNCATED_RECORD = "truncated_record"  # the file ends inside a record
    BAD_CRC = "bad_crc"  # a record's checksum does not match its bytes
    EMPTY_FILE = "empty_file"  # a file that should hold records holds none
    MISSING_RECORDS = "missing_records"  # fewer records than dataset_info.json promises
    UNDECODABLE_RECORD = "undecodable_record"  # the bytes are no tf.train.Example
    MISSING_FEATURE = "missing_feature"
    WRONG_DTYPE = "wrong_dtype"
    WRONG_SHAPE = "wrong_shape"
    NON_FINITE = "non_finite"  # NaN or infinity in a state or action
    NON_MONOTONIC_TIME = "non_monotonic_time"
    IMPLAUSIBLE = "implausible"  # finite, yet no robot's: a step a year, a pose a light-year away
    EMPTY_EPISODE = "empty_episode"  # no step at all
    TOO_SHORT = "too_short"  # fewer steps than clip.min_frames
    TOO_LARGE = "too_large"  # past a size limit that guards memory
    UNDECODABLE_IMAGE = "undecodable_image"
    NO_CAMERA = "no_camera"  # every view is blank or missing
    BAD_IDENTITY = "bad_identity"  # no usable episode id in the record
    DUPLICATE_EPISODE = "duplicate_episode"
    SPLIT_LEAK = "split_leak"  # its scene, lab or task shows only when read, and is elsewhere
    JOINT_LIMITS = "joint_limits"
    KINEMATICS_MISMATCH = "kinematics_mismatch"  # forward kinematics disagrees with the log
    UNSAFE_MODEL = "unsafe_model"  # a simulator model that asks for more than a scene needs
    BAD_TRUTH = "bad_truth"  # a twin's ground truth is missing or does not fit


class EpisodeError(Exception):
    """One episode cannot be used.

    Attributes:
        reason: the enumerated reason.
        episode_id: the source's identity, where it was read before the fault showed.
        stage: which stage found it (read, checks, reconstruct, encode).
    """

    def __init__(
        self, reason: Reason, message: str, *, episode_id: str | None = None, stage: str = "read"
    ) -> None:
        # File names need not be UTF-8, and a message becomes a row of the quarantine.
        super().__init__(message.encode(errors="backslashreplace").decode())
        self.reason, self.episode_id, self.stage = reason, episode_id, stage

    def __reduce__(self) -> tuple[object, ...]:
        # An exception pickles as its class and message alone.
        return _episode_error, (self.reason, str(self), self.episode_id, self.stage)


def _episode_error(
    reason: Reason, message: str, episode_id: str | None, stage: str
) -> EpisodeError:
    return EpisodeError(reason, message, episode_id=episode_id, stage=stage)


class UsageError(Exception):
    """Wrong arguments or configuration; the message says what to do."""


def did_you_mean(what: str, got: str, known: Iterable[str]) -> str:
    """Error text for an unknown name, with the nearest known one suggested."""
    known = sorted(known)
    close = difflib.get_close_matches(got.lower(), known, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {what} {got!r}{hint} (there are: {', '.join(known)})"
