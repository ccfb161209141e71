"""Which files a result is made by: judged against what Python itself loads."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.lineage import CODE_FOLDERS
from pipeline.made_by import code_of, files_of
from pipeline.recall import _MADE_BY

REPO = Path(__file__).resolve().parents[2]


def names(part: str) -> set[str]:
    return {path.relative_to(REPO).as_posix() for path in files_of(*_MADE_BY[part])}


@pytest.mark.parametrize("part", _MADE_BY)
def test_all_that_python_loads_for_a_part_is_among_its_files(part):
    roots = _MADE_BY[part][0]
    script = (
        f"import sys, {', '.join(roots)}\n"
        "for module in list(sys.modules.values()): print(getattr(module, '__file__', None))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=True
    )
    loaded = {Path(line) for line in done.stdout.splitlines() if line.endswith(".py")}
    own = {
        path.relative_to(REPO).as_posix()
        for path in loaded
        if path.is_relative_to(REPO) and path.relative_to(REPO).parts[0] in CODE_FOLDERS
    }
    assert own
    assert own <= names(part)


def test_a_part_leaves_out_what_other_parts_are_made_by():
    camera, robot, depth = (names(part) for part in ("camera", "robot", "depth"))
    assert "reconstruction/camera/search.py" in camera
    assert not {name for name in robot | depth if name.startswith("reconstruction/camera/")}
    assert "robots/rasterizer.py" in robot
    assert "reconstruction/depth/simulator.py" in depth
    assert "reconstruction/lift.py" in robot & depth
    assert "converters/droid.py" in camera & depth
    assert not {name for name in robot if name.startswith(("converters/", "reconstruction/depth"))}


@pytest.fixture
def made(tmp_path):
    """Two packages: ``robots.a`` imports ``robots.b`` within a function, nothing imports c."""
    for folder in ("robots", "schemas"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("")
    (tmp_path / "robots/a.py").write_text("import json\ndef f():\n    from robots import b\n")
    (tmp_path / "robots/b.py").write_text("import schemas.d\n")
    (tmp_path / "robots/c.py").write_text("")
    (tmp_path / "schemas/d.py").write_text("")

    def code(*alone: str) -> str:
        code_of.cache_clear()
        return code_of(("robots.a",), alone, tmp_path)

    return tmp_path, code


@pytest.mark.parametrize(
    ("file", "decides"),
    [("robots/a", True), ("robots/b", True), ("schemas/d", True), ("robots/c", False)],
)
def test_a_change_decides_where_imports_lead_to_it(file, decides, made):
    root, code = made
    before = code()
    (root / f"{file}.py").write_text("# other\n" + (root / f"{file}.py").read_text())
    assert (code() != before) == decides


def test_a_module_alone_counts_and_its_imports_do_not(made):
    root, code = made
    (root / "robots/c.py").write_text("import schemas.e\n")
    (root / "schemas/e.py").write_text("")
    before = code("robots.c")
    assert before != code()
    (root / "schemas/e.py").write_text("# other\n")
    assert code("robots.c") == before
    (root / "robots/c.py").write_text("")
    assert code("robots.c") != before


def test_a_module_that_is_gone_is_a_bug_and_said(made):
    with pytest.raises(ValueError, match="'robots.gone' is no module"):
        made[1]("robots.gone")


def test_weights_beside_a_source_file_count_with_it():
    made_by = files_of(("reconstruction.camera",))
    names = {path.relative_to(REPO).as_posix() for path in made_by}
    assert "reconstruction/camera/outline_net.safetensors" in names
    assert "reconstruction/camera/robot_masks.onnx" in names


def test_other_weights_are_other_code(tmp_path):
    (tmp_path / "robots").mkdir()
    (tmp_path / "robots" / "net.py").write_text("x = 1\n")
    weights = tmp_path / "robots" / "net.safetensors"
    weights.write_bytes(b"one")
    before = code_of(("robots.net",), base=tmp_path)
    code_of.cache_clear()
    weights.write_bytes(b"two")
    assert code_of(("robots.net",), base=tmp_path) != before
