"""Peeks against the full decoder, on records made to order, damaged ones and the real samples."""

import io
import os

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import droid_values, example_bytes, write_droid

from converters import _peek, open_source
from converters._example import Example
from converters._peek import peek_record, peek_texts
from converters.tfrecord import RecordSpan, frame, index_file

NAMES = ["a", "episode_metadata/file_path", "z" * 200]


class CountingFile(io.BytesIO):
    """Counts the bytes that are read."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def decoded(payload: bytes, names: list[str]) -> list[str]:
    """What protobuf's own parser finds."""
    stored = Example.FromString(payload).features.feature
    lists = [stored[name].bytes_list.value if name in stored else [] for name in names]
    return [values[0].decode().strip() if values else "" for values in lists]


sizes = st.one_of(st.integers(0, 40), st.integers(950, 1100), st.just(5000))
texts = st.lists(st.text(max_size=12).map(str.encode) | st.just(b"x" * 1500), max_size=3)
values = st.one_of(
    texts,
    sizes.map(lambda n: [b"\xff" * n]),
    st.lists(st.integers(-5, 5), max_size=200),
    st.lists(st.floats(width=32, allow_nan=False), max_size=300),
)
features = st.dictionaries(st.sampled_from(["b", "steps/x", "é"]), values, max_size=3)
asked = st.dictionaries(st.sampled_from(NAMES), texts, max_size=3)


def stored_value(values: list) -> bytes:
    example = Example()
    feature = example.features.feature["v"]
    if values and isinstance(values[0], int):
        feature.int64_list.value.extend(values)
    elif values and isinstance(values[0], float):
        feature.float_list.value.extend(values)
    else:
        feature.bytes_list.value.extend(values)
    return feature.SerializeToString()


@given(features, asked, st.randoms(), st.booleans())
def test_a_peek_finds_what_the_full_decoder_finds(others, wanted, random, split_up):
    entries = list({**others, **wanted}.items())
    random.shuffle(entries)
    parts = []
    for name, value in entries:
        pair = [field(1, name.encode()), field(2, stored_value(value))]
        if random.random() < 0.3:
            pair.reverse()
        if random.random() < 0.2:  # fields of a later version of the format
            parts.append(b"\x18\x96\x01" + b"\x25abcd" + b"\x29abcdefgh")
        parts.append(field(1, b"".join(pair)))
    # Messages may be stored in pieces, which merge.
    pieces = [[part] for part in parts] if split_up else [parts]
    payload = b"".join(field(1, b"".join(piece)) for piece in pieces)
    file = io.BytesIO(b"before" + payload + b"behind, which is another record")
    assert peek_record(file, RecordSpan(6, len(payload), 0), NAMES) == decoded(payload, NAMES)


@given(st.binary(max_size=80), st.integers(0, 2000), st.integers(0, 255))
def test_damage_gives_texts_or_none_and_never_raises(junk, at, byte):
    sound = bytearray(example_bytes({"a": "text", "b": os.urandom(1000)}))
    sound[at % len(sound)] = byte
    for payload in (junk, bytes(sound), bytes(sound[: at % len(sound)])):
        found = peek_record(io.BytesIO(payload), RecordSpan(0, len(payload), 0), NAMES)
        assert len(found) == len(NAMES)
        assert all(isinstance(text, str) for text in found)


def test_claims_past_the_limits_are_not_followed():
    many = field(1, field(1, field(1, b"b")) * 10_000 + example_bytes({"a": "text"})[2:])
    long = example_bytes({"a": "x" * 5000})
    endless = field(1, field(1, b"\x0a" + b"\xff" * 30))
    for payload in (many, long, endless):
        file = CountingFile(payload)
        assert peek_record(file, RecordSpan(0, len(payload), 0), ["a"]) == [""]
        assert file.count < 40_000


def test_values_that_are_not_asked_for_are_not_read():
    payload = example_bytes({"big": [bytes(1 << 20)] * 4, "a": "text", "huge": bytes(5 << 20)})
    file = CountingFile(payload)
    assert peek_record(file, RecordSpan(0, len(payload), 0), ["a"]) == ["text"]
    assert file.count < 8000


def test_peeks_are_remembered_until_the_file_or_the_question_changes(tmp_path, monkeypatch):
    path, cache = tmp_path / "a.tfrecord", tmp_path / "cache"
    path.write_bytes(frame(example_bytes({"a": "one", "b": "two"})))
    spans = index_file(str(path), cache).records
    assert peek_texts(str(path), spans, ["a"], cache) == [["one"]]
    with monkeypatch.context() as patch:
        patch.setattr(_peek, "peek_record", lambda *_: pytest.fail("read again"))
        assert peek_texts(str(path), spans, ["a"], cache) == [["one"]]
    assert peek_texts(str(path), spans, ["b"], cache) == [["two"]]
    for entry in cache.iterdir():
        entry.write_text('[["one", 2]]')
    assert peek_texts(str(path), spans, ["a"], cache) == [["one"]]
    path.write_bytes(frame(example_bytes({"a": "three", "b": "two"})))
    spans = index_file(str(path), cache).records
    assert peek_texts(str(path), spans, ["a"], cache) == [["three"]]


def test_a_url_is_peeked_into_like_a_file():
    fsspec.filesystem("memory").pipe("/peek/a.tfrecord", frame(example_bytes({"a": "there"})))
    spans = index_file("memory://peek/a.tfrecord").records
    assert peek_texts("memory://peek/a.tfrecord", spans, ["a"]) == [["there"]]


def test_a_record_without_identity_has_empty_groups_and_is_still_planned(tmp_path):
    nameless = {**droid_values(4, "Mon_1"), "episode_metadata/file_path": "nowhere"}
    good = example_bytes(droid_values(4, "Mon_0"))
    write_droid(tmp_path, [good, example_bytes(nameless), b"\x0a\xffjunk"])
    refs = open_source("droid", str(tmp_path), grouped=True).refs(None)["train"]
    assert [ref.groups.scene for ref in refs] == ["TEST", "", ""]


@pytest.mark.parametrize("source", ["droid", "bridge"])
def test_real_records_are_planned_in_the_groups_that_their_episodes_have(source, request):
    data = str(request.getfixturevalue(f"{source}_data"))
    opened = open_source(source, data, grouped=True)
    for split, refs in opened.refs(None).items():
        for ref in refs:
            assert ref.groups == opened.read(ref, split, None).groups
            assert ref.groups.scene
    plain = open_source(source, data).refs(None)
    assert not any(ref.groups.scene for refs in plain.values() for ref in refs)
