"""What the pipeline sees of any published data set, whatever its layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from converters._peek import peek_texts
from converters.rlds import Record, RldsDataset, decode_record
from converters.tfrecord import RecordReader, RecordSpan, index_file
from robo4d import ShapeError
from schemas.episode import Episode
from schemas.plan import EpisodeRef, Groups
from schemas.reasons import EpisodeError, Reason

Convert = Callable[[Record, RldsDataset, float | None], Episode]


class OpenedSource(Protocol):
    """A data set that was found and understood."""

    @property
    def layout(self) -> str:
        """Name of the layout, recorded in the plan."""

    @property
    def root(self) -> str:
        """Folder or URL of the data set."""

    @property
    def name(self) -> str:
        """Name and version as published."""

    @property
    def facts(self) -> str:
        """What the data set states that its samples depend on, and no record holds.

        Never what changes when it only grows: every shard's fingerprint covers it.
        """

    @property
    def twin(self) -> bool:
        """Simulated by `simulation/`, not published."""

    @property
    def joined(self) -> str:
        """sha256 of files joined to every episode, which its ref does not cover; empty: none."""

    @property
    def notes(self) -> Sequence[str]:
        """What a user should know about this copy."""

    def refs(self, cache: Path | None) -> dict[str, list[EpisodeRef]]:
        """Every episode by split, in file order; known damage is a ref with a defect."""

    def read(self, ref: EpisodeRef, split: str, fps: float | None) -> Episode:
        """One episode.

        Raises:
            EpisodeError: it cannot be used, with the reason.
            OSError: its file is gone.
        """


@dataclass(frozen=True)
class RldsSource:
    """An RLDS data set and the function that converts its records.

    Attributes:
        joined: sha256 of the files that ``convert`` joins to the records; empty without any.
        join_notes: what a user should know about those files.
        grouped_by: text features that ``groups_of`` takes, in its order; empty: no groups.
        grouped: whether `refs` looks into the records for them.
    """

    dataset: RldsDataset
    convert: Convert
    layout: str = "rlds"
    joined: str = ""
    join_notes: tuple[str, ...] = ()
    grouped_by: tuple[str, ...] = ()
    groups_of: Callable[..., Groups] = Groups
    grouped: bool = False

    @property
    def root(self) -> str:
        """Folder or URL that holds features.json."""
        return self.dataset.root

    @property
    def name(self) -> str:
        """Name and version as published."""
        return f"{self.dataset.name}/{self.dataset.version}"

    @property
    def facts(self) -> str:
        """Rate, licence, citation and features; of a twin all that it says, its seed too.

        A published description may count episodes, so that of it only the rate is here.
        """
        own = self.dataset
        stated = [own.stated_rate(), own.licence, own.citation, sorted(own.features.items())]
        return f"{stated}{own.description if own.twin else ''}"

    @property
    def twin(self) -> bool:
        """Simulated by `simulation/`, not published."""
        return self.dataset.twin

    @property
    def notes(self) -> Sequence[str]:
        """Files that are not here, and a stated rate."""
        rate = self.dataset.stated_rate()
        said = [f"step rate {rate:g} Hz, as the data set's description says"] if rate else []
        return [*self.dataset.notes, *said, *self.join_notes]

    def refs(self, cache: Path | None) -> dict[str, list[EpisodeRef]]:
        """Records of every file; what the framing or the promised count shows to be lost too."""
        out: dict[str, list[EpisodeRef]] = {}
        for split, file, promised in self.dataset.files:
            found = _file_refs(self.dataset, file, promised, cache)
            if self.grouped and self.grouped_by:
                found = self._with_groups(file, found, cache)
            out.setdefault(split, []).extend(found)
        return out

    def _with_groups(
        self, file: str, refs: list[EpisodeRef], cache: Path | None
    ) -> list[EpisodeRef]:
        """The refs with what a peek into their records tells; empty groups where it fails."""
        there = [name for name in self.grouped_by if name in self.dataset.features]
        spans = [RecordSpan(r.offset, r.length, r.crc) for r in refs if r.defect is None]
        texts = iter(peek_texts(self.dataset.url(file), spans, there, cache))
        out = []
        for ref in refs:
            if ref.defect is None:
                found = dict(zip(there, next(texts), strict=True))
                try:
                    groups = self.groups_of(*(found.get(name, "") for name in self.grouped_by))
                    ref = replace(ref, groups=groups)
                except EpisodeError:
                    pass  # the record says the same, with its identity, when it is read
            out.append(ref)
        return out

    def read(self, ref: EpisodeRef, split: str, fps: float | None) -> Episode:
        """Read, decode and convert one record."""
        if ref.defect is not None:
            raise EpisodeError(ref.defect, ref.message)
        with RecordReader(self.dataset.url(ref.file)) as reader:
            payload = reader.read(RecordSpan(ref.offset, ref.length, ref.crc))
        record = decode_record(payload, self.dataset.features, split, ref.file, ref.record)
        try:
            return self.convert(record, self.dataset, fps)
        except ShapeError as error:  # a contract that the record's values break
            raise EpisodeError(Reason.WRONG_SHAPE, str(error)) from error


def _file_refs(
    dataset: RldsDataset, file: str, promised: int | None, cache: Path | None
) -> list[EpisodeRef]:
    index = index_file(dataset.url(file), cache)
    refs = [
        EpisodeRef(file=file, record=n, offset=span.offset, length=span.length, crc=span.crc)
        for n, span in enumerate(index.records)
    ]
    defect, message = index.defect, index.message
    lost = max((promised or 0) - len(refs), 0)
    if defect is None and lost:
        defect = Reason.MISSING_RECORDS
        message = f"dataset_info.json promises {promised} records; the file holds {len(refs)}"
    if not refs and defect in (None, Reason.MISSING_RECORDS) and promised != 0:
        defect, message = Reason.EMPTY_FILE, "the file holds no record"
    if defect is not None:
        refs += [
            EpisodeRef(file=file, record=len(refs) + n, defect=defect, message=message)
            for n in range(max(lost, 1))
        ]
    return refs
