"""Our reader against tensorflow-datasets on TensorFlow, field by field, on the real sets.

TensorFlow lives in an environment of its own: `make reference` builds it and names its python
in ROBO4D_REFERENCE_PYTHON.
"""

import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from converters import open_source
from converters.rlds import decode_record
from converters.tfrecord import RecordReader, index_file
from schemas.images import decode_image

pytestmark = pytest.mark.reference
PYTHON = os.environ.get("ROBO4D_REFERENCE_PYTHON")
DUMP = Path(__file__).resolve().parents[1] / "helpers" / "tfds_dump.py"


@pytest.mark.parametrize("source", ["droid", "bridge"])
def test_every_field_of_every_step_equals_tfds(source, request, tmp_path):
    if not PYTHON:
        pytest.skip("ROBO4D_REFERENCE_PYTHON is not set: run this through `make reference`")
    data = request.getfixturevalue(f"{source}_data")
    dataset = open_source(source, str(data)).dataset
    subprocess.run([PYTHON, DUMP, dataset.root, "train", tmp_path], check=True)
    number = 0
    for split, file, _ in dataset.files:
        with RecordReader(dataset.url(file)) as reader:
            for n, span in enumerate(index_file(dataset.url(file)).records):
                record = decode_record(reader.read(span), dataset.features, split, file, n)
                with np.load(tmp_path / f"{number}.npz") as reference:
                    compare(record, reference, dataset.features)
                number += 1
    assert number == len(list(tmp_path.glob("*.npz")))


def compare(record, reference, features):
    fields = {name for name in reference if not name.startswith("encoded/")}
    assert fields == set(record.values)
    for path, feature in features.items():
        ours, theirs = record[path], reference[path]
        if feature.kind == "image":
            for t, data in enumerate(ours):
                assert data == reference[f"encoded/{path}/{t}"].tobytes()
                # TensorFlow decodes with the fast DCT; so asked, ours gives the same pixels. A
                # build uses the accurate DCT, which is OpenCV's too: TensorFlow's shortcut is up
                # to 1.8 levels off on average in these high-quality JPEGs.
                np.testing.assert_array_equal(decode_image(data, like_tensorflow=True), theirs[t])
                accurate = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
                np.testing.assert_array_equal(decode_image(data), accurate)
        elif feature.dtype == "bytes":
            listed = ours if feature.sequence else [ours]
            assert listed == [bytes(value) for value in np.atleast_1d(theirs)]
        else:
            assert ours.dtype == theirs.dtype, path
            np.testing.assert_array_equal(ours, theirs, err_msg=path)
