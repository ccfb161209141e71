"""``model_file`` of a LIBERO demo: a whole MuJoCo model from a stranger, made safe to compile.

What is kept is what says where things are and how they look. Dropped: ``option``, ``size``,
``actuator``, ``sensor``, ``contact``, ``equality``, ``tendon``, ``keyframe`` and ``custom``, since
no stored position depends on them (and a ``size`` may claim any memory); the compiler's folders,
since every file is named by its full path. Anything else is refused.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from xml.parsers import expat

import mujoco

from converters._libero_assets import LiberoAssets
from schemas.reasons import EpisodeError, Reason

# A published model has some 100 kB, 40 bodies, 300 geoms, 80 meshes and 16 textures.
MAX_BYTES = 1 << 22
_MAX_DEPTH = 64
_MAX_COUNT = {"body": 500, "joint": 500, "geom": 1800, "mesh": 500, "texture": 64, "light": 16}
_MAX_ELEMENTS = 20_000
_MAX_TEXELS = 1 << 22  # of a made texture; LIBERO's largest is 512 x 3072
# What is drawn at once (`robots.offscreen` asks MuJoCo for 2000), with a margin for lights.
_MAX_DRAWN = 1900
_MAX_QUALITY = {
    "shadowsize": 8192,
    "offsamples": 16,
    "numslices": 64,
    "numstacks": 64,
    "numquads": 64,
}

_KEPT = {
    "mujoco": {"compiler", "visual", "statistic", "default", "asset", "worldbody"},
    "visual": {"global", "quality", "headlight", "map", "scale", "rgba"},
    "default": {"default", "mesh", "material", "joint", "geom", "site", "camera", "light"},
    "asset": {"texture", "material", "mesh"},
    "worldbody": {"body", "geom", "site", "camera", "light", "joint", "freejoint"},
    "body": {"body", "inertial", "joint", "freejoint", "geom", "site", "camera", "light"},
}
_DROPPED = {
    "mujoco": {
        "option",
        "size",
        "actuator",
        "sensor",
        "contact",
        "equality",
        "tendon",
        "keyframe",
        "custom",
    },
    "default": {
        "general",
        "motor",
        "position",
        "velocity",
        "intvelocity",
        "damper",
        "cylinder",
        "muscle",
        "adhesion",
        "pair",
        "equality",
        "tendon",
    },
}
_COMPILER = {"angle", "autolimits", "eulerseq", "inertiafromgeom", "inertiagrouprange"}
_COMPILER |= {"balanceinertia", "boundinertia", "boundmass"}
# Elements that may name a file, and every attribute that they may have.
_ATTRIBUTES = {
    "mesh": {
        "name",
        "class",
        "file",
        "scale",
        "refpos",
        "refquat",
        "smoothnormal",
        "inertia",
        "maxhullvert",
    },
    "texture": {
        "name",
        "type",
        "colorspace",
        "builtin",
        "mark",
        "rgb1",
        "rgb2",
        "markrgb",
        "random",
        "width",
        "height",
        "file",
        "gridsize",
        "gridlayout",
        "nchannel",
        "hflip",
        "vflip",
    },
}
# Follows from the file's ending, which is checked.
_DERIVED = {"content_type"}
_FILE = re.compile("file|plugin", re.IGNORECASE)


def safe_model(text: str, assets: LiberoAssets) -> str:
    """The model's XML with only known elements, and files of ``assets`` alone.

    Raises:
        EpisodeError: `UNSAFE_MODEL`, `TOO_LARGE`, `MISSING_FEATURE` (an asset that is not here) or
            `UNDECODABLE_RECORD` (no XML).
    """
    root = _parse(text)
    if root.tag != "mujoco":
        raise _unsafe(f"the model begins with <{root.tag[:60]}>; expected <mujoco>")
    _clean(root, assets)
    for compiler in root.iter("compiler"):
        for name in set(compiler.attrib) - _COMPILER:
            del compiler.attrib[name]
    return ElementTree.tostring(root, encoding="unicode")


def compile_model(xml: str) -> mujoco.MjModel:
    """Compile what `safe_model` made.

    Raises:
        EpisodeError: `UNDECODABLE_RECORD` if MuJoCo refuses it, `UNSAFE_MODEL` if it would ask
            the renderer for too much.
    """
    try:
        model = mujoco.MjModel.from_xml_string(xml)
    except (ValueError, mujoco.FatalError) as error:
        raise EpisodeError(
            Reason.UNDECODABLE_RECORD, f"MuJoCo {mujoco.__version__} refuses model_file: {error}"
        ) from error
    for name, most in _MAX_QUALITY.items():
        value = getattr(model.vis.quality, name)
        if not 0 <= value <= most:
            raise _unsafe(f"visual/quality {name} is {value}; at most {most}")
    if model.ngeom + model.nsite > _MAX_DRAWN:
        raise _unsafe(f"{model.ngeom} geoms and {model.nsite} sites; at most {_MAX_DRAWN}")
    return model


def _unsafe(message: str) -> EpisodeError:
    return EpisodeError(Reason.UNSAFE_MODEL, message)


def _parse(text: str) -> ElementTree.Element:
    """Elements and attributes of bounded number and depth, without any document type."""
    if len(text) > MAX_BYTES:
        raise EpisodeError(
            Reason.TOO_LARGE, f"model_file has {len(text)} characters; at most {MAX_BYTES}"
        )
    builder = ElementTree.TreeBuilder()
    # What the string is in, whatever its declaration says.
    parser = expat.ParserCreate(encoding="utf-8")
    counts: Counter[str] = Counter()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        counts[tag] += 1
        if depth > _MAX_DEPTH or counts.total() > _MAX_ELEMENTS:
            raise _unsafe(
                f"the model has over {_MAX_ELEMENTS} elements, or some over {_MAX_DEPTH} deep"
            )
        if counts[tag] > _MAX_COUNT.get(tag, _MAX_ELEMENTS):
            raise _unsafe(f"the model has over {_MAX_COUNT[tag]} elements <{tag}>")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def doctype(*_: object) -> None:
        raise _unsafe("the model has a document type, which may define entities; refused")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = doctype
    try:
        parser.Parse(text.encode(errors="surrogatepass"), True)
    except expat.ExpatError as error:
        raise EpisodeError(Reason.UNDECODABLE_RECORD, f"model_file is no XML: {error}") from error
    return builder.close()


def _clean(element: ElementTree.Element, assets: LiberoAssets) -> None:
    for child in list(element):
        if child.tag in _DROPPED.get(element.tag, ()):
            element.remove(child)
            continue
        if child.tag not in _KEPT.get(element.tag, ()):
            raise _unsafe(f"the model has <{child.tag[:60]}> in <{element.tag}>; refused")
        if child.tag != "compiler":
            _check_attributes(child, assets)
        _clean(child, assets)


def _check_attributes(element: ElementTree.Element, assets: LiberoAssets) -> None:
    for name in _DERIVED & set(element.attrib):
        del element.attrib[name]
    known = _ATTRIBUTES.get(element.tag)
    for name in element.attrib:
        if name not in known if known else _FILE.search(name):
            raise _unsafe(f"<{element.tag}> has the attribute {name[:60]!r}; refused")
    if "file" in element.attrib:
        element.set("file", str(assets.locate(element.attrib["file"])))
    elif element.tag == "texture" and _texels(element) > _MAX_TEXELS:
        raise _unsafe(
            f"a texture is made with {element.get('width')} x {element.get('height')} texels; "
            f"at most {_MAX_TEXELS}"
        )


def _texels(texture: ElementTree.Element) -> float:
    sides = []
    for name in ("width", "height"):
        try:
            sides.append(abs(int(texture.get(name, "0"))))
        except ValueError as error:
            raise _unsafe(f"a texture's {name} is {texture.get(name, '')[:60]!r}") from error
    # MuJoCo makes a cube's height six times its width, whatever is written; cube is its default.
    return sides[0] * sides[1] if texture.get("type") == "2d" else 6 * sides[0] ** 2
