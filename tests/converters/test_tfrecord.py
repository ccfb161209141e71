"""TFRecord framing: index by seeking, checksums, truncation."""

import io

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.tfrecord import RecordReader, RecordSpan, frame, index_file, masked_crc, scan_file
from schemas.reasons import EpisodeError, Reason


class CountingFile(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_the_checksum_is_crc32c_masked_as_tensorflow_does():
    # CRC32C("123456789") = 0xe3069283 is the standard check value (RFC 3720 uses the same CRC).
    crc = 0xE3069283
    assert masked_crc(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_every_record_is_found_and_read_back(payloads):
    data = b"".join(map(frame, payloads))
    index = scan_file(io.BytesIO(data), len(data))
    assert index.defect is None
    assert [data[r.offset : r.offset + r.length] for r in index.records] == payloads


def test_the_index_reads_no_payload():
    data = b"".join(frame(bytes(100_000)) for _ in range(10))
    file = CountingFile(data)
    assert len(scan_file(file, len(data)).records) == 10
    assert file.count <= 10 * 16 + 12


@given(st.integers(0, 399))
def test_a_truncated_file_keeps_its_whole_records(cut):
    data = b"".join(frame(bytes(84)) for _ in range(4))[:cut]
    index = scan_file(io.BytesIO(data), len(data))
    assert len(index.records) == cut // 100
    assert index.defect == (None if cut % 100 == 0 else Reason.TRUNCATED_RECORD)


def test_a_damaged_length_ends_the_file_with_its_reason():
    data = bytearray(b"".join(frame(bytes(84)) for _ in range(3)))
    data[101] ^= 1
    index = scan_file(io.BytesIO(bytes(data)), len(data))
    assert len(index.records) == 1
    assert index.defect == Reason.BAD_CRC
    assert "200 bytes from there on cannot be read" in index.message


def test_a_damaged_payload_fails_when_read(tmp_path):
    data = bytearray(frame(b"x" * 50) + frame(b"y" * 50))
    data[20] ^= 1
    path = tmp_path / "a.tfrecord"
    path.write_bytes(data)
    first, second = index_file(str(path)).records
    with RecordReader(str(path)) as reader:
        with pytest.raises(EpisodeError) as caught:
            reader.read(first)
        assert caught.value.reason == Reason.BAD_CRC
        assert reader.read(second) == b"y" * 50
        with pytest.raises(EpisodeError) as caught:
            reader.read(RecordSpan(0, 1 << 40, 0))
        assert caught.value.reason == Reason.TOO_LARGE


def test_the_index_is_cached_until_the_file_changes(tmp_path, monkeypatch):
    path, cache = tmp_path / "a.tfrecord", tmp_path / "cache"
    path.write_bytes(frame(b"1") + frame(b"2"))
    first = index_file(str(path), cache)
    with monkeypatch.context() as patch:
        patch.setattr("converters.tfrecord.scan_file", lambda *_: pytest.fail("scanned again"))
        assert index_file(str(path), cache) == first
    path.write_bytes(frame(b"1") + frame(b"2") + frame(b"3"))
    assert len(index_file(str(path), cache).records) == 3
    for entry in cache.iterdir():
        entry.write_text("damaged")
    assert len(index_file(str(path), cache).records) == 3


def test_a_url_is_indexed_and_read_like_a_file():
    memory = fsspec.filesystem("memory")
    memory.pipe("/tf/a.tfrecord", frame(b"one") + frame(b"two"))
    index = index_file("memory://tf/a.tfrecord")
    with RecordReader("memory://tf/a.tfrecord") as reader:
        assert reader.read(index.records[1]) == b"two"
