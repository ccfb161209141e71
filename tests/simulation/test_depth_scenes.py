"""LIBERO's scenes as the depth network learns from them: what is held out is not there."""

import re
import subprocess
from pathlib import Path

import mujoco
import numpy as np
import pytest
from take_checks import share_that_agrees

import simulation.depth_scenes
from simulation.depth_scenes import HELD_OUT_THINGS
from simulation.depth_scenes.libero import Bank, compile_scene, film_libero, open_bank
from simulation.depth_scenes.take import FRAMES, HEIGHT, WIDTH

JUDGED_SUITES = ("libero_spatial", "libero_goal", "libero_object")
ARENAS = {"table", "floor"}  # of these suites alone
SCENE = "KITCHEN_SCENE3"  # a flat stove, which is held out, a frying pan and a moka pot


def things(bddl: Path) -> set[str]:
    """Kinds of fixtures and objects that a task's file declares."""
    text = bddl.read_text()
    sections = re.findall(r"\(:(?:fixtures|objects)(.*?)\)\s", text, re.S)
    return {
        line.split(" - ")[1].strip() for s in sections for line in s.splitlines() if " - " in line
    }


def of_suite(folder: Path) -> set[str]:
    return set().union(*map(things, folder.glob("*.bddl")))


@pytest.fixture(scope="session")
def tasks(libero_site) -> Path:
    """LIBERO's own task files."""
    return libero_site / "libero/libero/bddl_files"


def test_whatever_the_judged_suites_show_is_held_out(tasks):
    shown = {
        kind
        for suite in JUDGED_SUITES
        for file in (tasks / suite).glob("*.bddl")
        for kind in things(file)
    }
    assert shown - ARENAS == shown & set(HELD_OUT_THINGS)
    trained = of_suite(tasks / "libero_90")
    assert not trained & ARENAS
    assert trained - set(HELD_OUT_THINGS) > {"moka_pot", "microwave", "desk_caddy"}


@pytest.fixture(scope="module")
def bank(libero_site, tmp_path_factory) -> Bank:
    """One scene, as LIBERO itself sets it up."""
    out = tmp_path_factory.mktemp("bank") / "bank.json.gz"
    script = Path(simulation.depth_scenes.__file__).parent / "libero_bank.py"
    python = libero_site.parents[2] / "bin" / "python"
    subprocess.run([python, script, out, SCENE], check=True, capture_output=True)
    return open_bank(out, libero_site)


@pytest.mark.slow
def test_held_out_things_are_gone_and_the_others_are_there(bank):
    assert 'name="flat_stove_1_main"' in bank.scenes[0]["model"]
    model = compile_scene(bank, 0)
    bodies = [model.body(k).name for k in range(model.nbody)]
    assert not [name for name in bodies if name.startswith(HELD_OUT_THINGS)]
    for there in ("chefmate_8_frypan_1_main", "moka_pot_1_main", "robot0_base", "table"):
        assert there in bodies
    meshes = [model.mesh(k).name for k in range(model.nmesh)]
    assert not [name for name in meshes if name.startswith(HELD_OUT_THINGS)]


@pytest.mark.slow
def test_what_is_near_a_camera_is_not_cut_open(bank):
    model = compile_scene(bank, 0)
    assert model.vis.map.znear * model.stat.extent == pytest.approx(0.01)
    assert model.vis.map.zfar * model.stat.extent == pytest.approx(20)


@pytest.mark.slow
def test_takes_of_a_scene_see_one_scene_and_differ(bank):
    takes = []
    for take in film_libero(bank, 0, 5):
        takes.append(take)
        if len(takes) == 3:
            break
    for take in takes:
        assert take.rgb.shape == (FRAMES, HEIGHT, WIDTH, 3)
        assert (take.depth > 0).mean() > 0.7
    agree = [share for take in takes for share in share_that_agrees(take)]
    assert np.nanmedian(agree) > 0.7
    assert not np.array_equal(takes[0].rgb, takes[1].rgb)
    again = next(film_libero(bank, 0, 5))
    assert np.array_equal(again.rgb, takes[0].rgb)
    assert np.array_equal(again.depth, takes[0].depth)


@pytest.mark.slow
def test_a_working_hand_points_down(bank):
    takes = list(film_libero(bank, 0, 5, hand_work=1.0))
    assert len(takes) >= 4
    poses = np.concatenate([take.base_from_camera for take in takes])
    # The camera on the hand looks along it, tipped by its mount and by joints' spread.
    assert (poses[:, 2, 2] < -0.7).mean() > 0.9
    assert len(np.unique(poses[:, :3, 3].round(4), axis=0)) == len(poses)


@pytest.mark.slow
def test_a_look_leaves_the_compiled_scene_as_it_was(bank):
    model = compile_scene(bank, 0)
    before = model.tex_data.copy(), model.geom_size.copy()
    next(film_libero(bank, 0, 6))
    assert np.array_equal(model.tex_data, before[0])
    assert np.array_equal(model.geom_size, before[1])
    assert mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "extra0") >= 0
