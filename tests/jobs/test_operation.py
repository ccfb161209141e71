"""A build that runs: what it tells, how it stops, and what it does with too much bad data."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families
from records import droid_values, example_bytes, write_droid

from jobs._status import read_status
from jobs.build import TooMuchQuarantine, run_build
from jobs.monitor import Stopped
from pipeline.plan import make_plan
from pipeline.store import Store
from schemas.config import BuildConfig, RunConfig
from schemas.reasons import UsageError

REPO = Path(__file__).resolve().parents[2]
QUICK = {"camera": {"solve": "never"}, "shard": {"episodes": 2}}


def good(number: int) -> bytes:
    return example_bytes(droid_values(8, f"Mon_{number}", number))


def plan_of(tmp_path, records, **config):
    write_droid(tmp_path / "data", records)
    made = BuildConfig.model_validate({**QUICK, **config})
    return make_plan({"droid": str(tmp_path / "data")}, made)


def gauges(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def log_lines(out: Path) -> list[dict]:
    return [
        json.loads(line)
        for path in (out / ".run").glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]


def test_status_metrics_and_log_say_what_the_tables_say(tmp_path):
    plan = plan_of(tmp_path, [good(0), b"junk", good(1)], quarantine={"max_share": 1})
    out = tmp_path / "out"
    run_build(plan, Store.at(out), RunConfig())
    rows = pq.read_table(out / "manifest.parquet").to_pylist()
    aside = pq.read_table(out / "quarantine.parquet").to_pylist()
    status = read_status(str(out))
    assert (status["state"], status["shards_done"], status["episodes_done"]) == ("done", 2, 3)
    assert status["samples"] == len(rows)
    assert status["quarantine"] == {row["reason"]: 1 for row in aside}
    assert not status["lost"]
    told = gauges((out / ".run/metrics.prom").read_text())
    assert told["robo4d_samples"] == len(rows)
    assert told[f"robo4d_quarantine[{aside[0]['reason']}]"] == 1
    assert told["robo4d_state[done]"] == 1
    lines = log_lines(out)
    lifted = [line for line in lines if line["event"] == "episode lifted"]
    assert {line["episode"] for line in lifted} == {row["episode_id"] for row in rows}
    assert {line["shard"] + ".tar" for line in lifted} == {row["shard"] for row in rows}
    (bad,) = [line for line in lines if line["event"] == "episode quarantined"]
    assert (bad["level"], bad["reason"], bad["episode"]) == (
        "warning",
        aside[0]["reason"],
        aside[0]["episode_id"],
    )


def test_prometheus_may_ask_on_loopback_while_it_runs(tmp_path, unused_port):
    plan = plan_of(tmp_path, [good(0), good(1), good(2)])
    asked = []

    def ask(status):
        with urllib.request.urlopen(f"http://127.0.0.1:{unused_port}/metrics", timeout=10) as page:
            asked.append(gauges(page.read().decode()))

    run_build(plan, Store.at(tmp_path / "out"), RunConfig(), ask, unused_port)
    assert [told["robo4d_shards_done"] for told in asked] == [1, 2]
    assert all(told["robo4d_state[building]"] == 1 for told in asked)
    sockets = Path("/proc/net/tcp").read_text()
    assert f"00000000:{unused_port:04X}" not in sockets
    # The port is free again, and one that is not is explained.
    with socket.create_server(("127.0.0.1", unused_port)), pytest.raises(UsageError, match="port"):
        run_build(plan, Store.at(tmp_path / "out"), RunConfig(), port=unused_port)


def test_too_much_quarantine_stops_the_build_with_a_report(tmp_path, sha256_of_files):
    records = [good(0), b"junk", b"junk", b"junk", good(1), good(2), good(3), good(4)]
    config = {"max_share": 0.4, "stop_after": 4}
    plan = plan_of(tmp_path, records, quarantine=config)
    out = tmp_path / "out"
    with pytest.raises(TooMuchQuarantine, match=r"3 of 4 episodes \(75%\).*3 undecodable_record"):
        run_build(plan, Store.at(out), RunConfig())
    assert len(list(out.glob("*.tar"))) == 2
    assert read_status(str(out))["state"] == "failed"
    never = plan_of(tmp_path, records, quarantine={**config, "stop_after": None})
    run_build(never, Store.at(out), RunConfig())
    run_build(never, Store.at(tmp_path / "fresh"), RunConfig())
    assert sha256_of_files(out) == sha256_of_files(tmp_path / "fresh")


def test_a_share_that_may_still_fall_does_not_stop_a_build(tmp_path):
    records = [b"junk", good(0), good(1), good(2)]
    plan = plan_of(tmp_path, records, quarantine={"max_share": 0.3, "stop_after": 3})
    assert run_build(plan, Store.at(tmp_path / "out"), RunConfig())["shards"] == 2


def test_a_stopped_build_keeps_whole_shards_and_goes_on_from_them(tmp_path, sha256_of_files):
    plan = plan_of(tmp_path, [good(n) for n in range(6)])
    out = tmp_path / "out"

    def stop(status):
        raise Stopped("SIGTERM")

    with pytest.raises(Stopped):
        run_build(plan, Store.at(out), RunConfig(), stop)
    assert len(list(out.glob("*.index.json"))) == len(list(out.glob("*.tar"))) == 1
    assert not list((out / ".tmp").iterdir())
    assert read_status(str(out))["state"] == "stopped"
    run_build(plan, Store.at(out), RunConfig())
    run_build(plan, Store.at(tmp_path / "fresh"), RunConfig())
    assert sha256_of_files(out) == sha256_of_files(tmp_path / "fresh")
    assert read_status(str(out))["shards_skipped"] == 1


def test_a_build_that_is_silent_is_called_lost(tmp_path):
    plan = plan_of(tmp_path, [good(0)])
    store = Store.at(tmp_path / "out")
    run_build(plan, store, RunConfig())
    said = json.loads(store.read(".run/status.json"))
    for state, lost in (("building", True), ("done", False)):
        old = {**said, "state": state, "updated": said["updated"] - 1000}
        store.publish_bytes(".run/status.json", json.dumps(old).encode())
        assert read_status(str(tmp_path / "out"))["lost"] is lost


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"{}"])
def test_a_status_that_is_not_there_or_damaged_is_explained(tmp_path, content):
    if content is not None:
        Store.at(tmp_path).publish_bytes(".run/status.json", content)
    with pytest.raises(UsageError, match="status"):
        read_status(str(tmp_path))


@pytest.mark.slow
def test_sigterm_ends_driver_and_workers_and_leaves_nothing_half_written(tmp_path):
    write_droid(tmp_path / "data", [good(n) for n in range(40)])
    out = tmp_path / "out"
    build = subprocess.Popen(
        [
            *(sys.executable, "-m", "jobs.cli", "build", "-s", "droid", "-d", tmp_path / "data"),
            *("-o", out, "-w", "2", "--set", "camera.solve=never", "--set", "shard.episodes=2"),
        ],
        cwd=REPO,
        env={**os.environ, "ROBO4D_CACHE": str(tmp_path / "cache")},
        stderr=subprocess.PIPE,
        text=True,
    )

    def both_work() -> bool:
        logs = [path for path in (out / ".run").glob("*.jsonl") if path.stat().st_size]
        return len([path for path in logs if not path.stem.endswith(f"-{build.pid}")]) == 2

    # One worker may be done with a shard before the other has begun.
    while build.poll() is None and not (list(out.glob("*.index.json")) and both_work()):
        time.sleep(0.05)
    build.send_signal(signal.SIGTERM)
    _, said = build.communicate(timeout=60)
    assert build.returncode == 143, said
    assert "goes on from what is there" in said
    assert not list((out / ".tmp").iterdir())
    assert read_status(str(out))["state"] == "stopped"
    workers = {line["pid"] for line in log_lines(out)} - {build.pid}
    assert len(workers) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
