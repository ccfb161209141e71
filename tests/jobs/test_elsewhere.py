"""Two people with the same inputs get the same bytes, whoever builds where and when."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from records import droid_values, example_bytes, write_droid

from converters.tfrecord import frame

REPO = Path(__file__).resolve().parents[2]
PACKAGES = (
    *("robo4d", "schemas", "robots", "converters", "simulation", "reconstruction"),
    *("pipeline", "qa", "jobs", "configs"),
)


def write_inputs(data: Path, annotations: Path) -> None:
    """Four sound episodes, one of them twice, four bad records and one that is missing."""
    sound = [droid_values(8, f"Mon_{n}", n) for n in range(4)]
    sound[1]["steps/language_instruction"] = ["öffne die Schublade 引き出し"] * 8
    nan, image, limits = (droid_values(8, name) for name in ("Nan", "Image", "Limits"))
    nan["steps/observation/joint_position"][2, 1] = np.nan
    image["steps/observation/wrist_image_left"][4] = b"\xff\xd8\xff\xe0 no jpeg"
    limits["steps/observation/joint_position"] += 6.0
    records = [example_bytes(v) for v in (*sound, nan, image, limits, sound[0])]
    file = write_droid(data, records, promised=10)
    file.write_bytes(b"".join(map(frame, (*records, b"junk"))))
    annotations.mkdir(parents=True)
    texts = {"TEST+x+2026-01-01-10h-00m-00s": {"language_instruction1": "sweep it"}}
    (annotations / "droid_language_annotations.json").write_text(json.dumps(texts))


def build(cwd: Path, data: object, annotations: object, out: Path, workers: int, umask: int, **env):
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", "build", "-s", "droid", "-d", str(data)]
        + ["-o", str(out), "-w", str(workers), "--set", "shard.episodes=3"]
        + ["--set", f"source.droid.annotations={annotations}"]
        + ["--set", "camera.solve=never", "--set", "quarantine.max_share=1"],
        cwd=cwd,
        env={**os.environ, **env},
        umask=umask,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_shards_and_tables_do_not_depend_on_place_user_or_machine_settings(
    tmp_path, sha256_of_files
):
    here, away = tmp_path / "here", tmp_path / "another user's" / "place"
    write_inputs(here / "data", here / "notes")
    cache = str(here / "cache")
    build(
        *(REPO, here / "data", here / "notes", here / "out", 1, 0o022),
        **{"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C.UTF-8", "ROBO4D_CACHE": cache},
    )
    for name in PACKAGES:
        shutil.copytree(REPO / name, away / "code" / name, ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copytree(here / "data", away / "other" / "data", copy_function=shutil.copyfile)
    shutil.copytree(here / "notes", away / "other" / "annotations")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    build(
        *(away / "other", "data/droid/1.0.0", "annotations", away / "result", 2, 0o077),
        **{"PYTHONHASHSEED": "2", "TZ": "Asia/Kathmandu", "HOME": str(away), "USER": "somebody"},
        **{"PYTHONPATH": str(away / "code"), "ROBO4D_CACHE": "", "XDG_CACHE_HOME": ""},
        **{"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **ascii_only},
    )
    one, other = sha256_of_files(here / "out"), sha256_of_files(away / "result")
    assert one.pop("plan.json") != other.pop("plan.json"), "it names the data's place"
    assert len([name for name in one if name.endswith(".tar")]) == 4
    assert one == other
    assert pq.read_metadata(away / "result" / "quarantine.parquet").num_rows == 6
    for file in (away / "result").iterdir():
        if file.is_file() and file.name != "plan.json":
            assert str(tmp_path).encode() not in file.read_bytes(), file.name
