"""The body of `robo4d explain`: the chain from published file to sample, as a tree."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from jobs._show import human_bytes
from pipeline.explain import BuiltData, explain
from pipeline.recheck import recheck

_MARKS = {True: "[green]holds[/]", False: "[red]does not hold[/]", None: "[yellow]not known[/]"}


def explain_key(where: str, key: str, *, check: bool, source_data: str | None) -> dict[str, Any]:
    """The chains that ``key`` names; with ``check``, each with what was read again.

    Raises:
        UsageError: unknown key, or a build or data that cannot be read.
    """
    data = BuiltData(where)
    found = explain(data, key)
    if check:
        for chain in found["records"]:
            chain["checked"] = recheck(data, chain, source_data)
    return found


def holds(found: dict[str, Any]) -> bool:
    """Nothing that was read again differs."""
    checked = (one for chain in found["records"] for one in chain.get("checked", []))
    return all(one["holds"] is not False for one in checked)


def print_chains(found: dict[str, Any]) -> None:
    out = Console(highlight=False)
    for chain in found["records"]:
        out.print(_tree(chain), soft_wrap=not out.is_terminal)  # hashes stay whole in a pipe


def _tree(chain: dict[str, Any]) -> Tree:
    tree = Tree(f"[bold]{escape(chain['episode_id'])}[/]")
    published, record, lineage = chain["published"], chain["record"], chain["lineage"]
    twin = ", [yellow]a simulated TWIN[/]" if published["twin"] else ""
    part = _branch(
        tree, "published", f"{escape(published['dataset'])}, layout {published['layout']}{twin}"
    )
    if published["joined"]:
        part.add(f"joined to every record: files of sha256 {published['joined']}")
    part = _branch(tree, "record", f"{escape(record['file'])} #{record['record']}")
    if record.get("length"):
        start, length = record.get("offset", 0), record["length"]
        part.add(f"bytes {start} to {start + length} ({human_bytes(length)})")
    part.add(f"sha256 {record['sha256']}" if record["sha256"] else "[dim]no hash was kept[/]")
    if (episode := chain["episode"]) is not None:
        _add_episode(tree, published["source"], episode)
    if (aside := chain["set_aside"]) is not None:
        part = _branch(tree, "set aside", f"[red]{aside['reason']}[/] at {aside['stage']}")
        part.add(escape(aside["message"]))
    for sample in chain["samples"]:
        _add_sample(tree, sample)
    _add_lineage(tree, lineage)
    shard = chain["shard"]
    size = human_bytes(shard["bytes"])
    part = _branch(tree, "shard", f"{shard['name']}, split {shard['split']}, {size}")
    _leaves(part, f"sha256 {shard['sha256']}", f"fingerprint {shard['fingerprint']}")
    if "checked" in chain:
        part = _branch(tree, "checked", "read again")
        for one in chain["checked"]:
            said = f": {one['said']}" if one["said"] else ""
            part.add(f"{_MARKS[one['holds']]}  {escape(one['what'] + said)}")
    return tree


def _add_episode(tree: Tree, source: str, episode: dict[str, Any]) -> None:
    said = ", ".join(map(repr, episode["instructions"])) or "no instruction"
    part = _branch(tree, "read", f"as {source}: {episode['outcome']}, {escape(said)}")
    groups = ", ".join(f"{name} {value}" for name, value in episode["groups"].items() if value)
    _leaves(
        part,
        *([escape(groups)] if groups else []),
        *(f"also known as {escape(alias)}" for alias in episode["aliases"]),
        *(f"[dim]note:[/] {escape(note)}" for note in episode["notes"]),
        f"licence {escape(episode['licence'])}",
    )
    robot, timing = episode["robot"], episode["timing"]
    _branch(tree, "robot", f"{robot['name']}, from {escape(robot['description'])}")
    if timing["seconds"] is None:
        late = f"images against the log: not known, {timing['reason']}"
    else:
        sure = "sure" if timing["sure"] else f"not sure ({timing['reason']})"
        late = f"images {timing['seconds']:+.3f} s late against the log, {sure}"
    _branch(tree, "checks", "passed").add(escape(late))


def _add_sample(tree: Tree, sample: dict[str, Any]) -> None:
    part = _branch(tree, "sample", f"[bold]{sample['key']}[/] {escape(sample['camera'])}")
    clip, fields, quality = sample["clip"], sample["fields"], sample["quality"]
    part.add(
        f"clip: {clip['frames']} frames of {clip['width']}x{clip['height']} at {clip['fps']:.3g} "
        f"Hz, steps {clip['clip_start']} to {clip['clip_end']} of {clip['episode_steps']} "
        f"({clip['trimmed_start']} before and {clip['trimmed_end']} behind it without motion)"
    )
    miss = quality["ee_residual_m"]
    missed = "" if miss is None else f", the logged pose is missed by {miss * 1000:.2g} mm at most"
    shifted = ", from where the log agrees with the images" if quality["time_corrected"] else ""
    part.add(f"joints: {fields['joints']['provenance']}{missed}{shifted}")
    camera = sample["camera_solution"]
    why = f": {camera['why']}" if camera["why"] else ""
    part.add(f"camera: {fields['K']['provenance']}, {camera['verdict']}{escape(why)}")
    depth = fields["depth"]
    why = f": {depth['reason']}" if "reason" in depth else ""
    part.add(f"depth: {depth['provenance']}{escape(why)}")
    stored = sample["stored"]
    part.add(
        f"stored in {stored['shard']} at {stored['offset']}, {human_bytes(stored['bytes'])}, "
        f"split {stored['split']}"
    )
    if sample["duplicate_of"]:
        part.add(f"[yellow]repeats {escape(sample['duplicate_of'])}[/]")


def _add_lineage(tree: Tree, lineage: dict[str, Any]) -> None:
    here = lineage["here"]
    part = _branch(tree, "configuration", "")
    changed = [f"{name} = {value}" for name, value in lineage["changed"].items()]
    _leaves(part, *map(escape, changed or ["as by default"]))
    part.add(f"sha256 {lineage['config_sha256']}")
    same = "as here" if here["same_code"] else "[yellow]not the code that is here[/]"
    part = _branch(tree, "code", f"robo4d {lineage['version']}, {same}")
    part.add(f"sha256 {lineage['code']}")
    differ = here["packages"]
    told = f"[yellow]{len(differ)} of them other than here[/]" if differ else "as here"
    part = _branch(tree, "packages", told)
    for name, version in differ.items():
        part.add(f"[yellow]{name} {lineage['packages'].get(name, 'none')}, here {version}[/]")
    rest = [f"{name} {v}" for name, v in lineage["packages"].items() if name not in differ]
    # A few a line: a tree in a pipe is cut at the width, and wraps nothing.
    _leaves(part, *(", ".join(rest[n : n + 3]) for n in range(0, len(rest), 3)))
    part = _branch(tree, "models", "" if lineage["models"] else "none")
    _leaves(part, *(f"{stage}: {escape(name)}" for stage, name in lineage["models"].items()))


def _branch(tree: Tree, name: str, text: str) -> Tree:
    return tree.add(f"[cyan]{name}[/]  {text}".rstrip())


def _leaves(tree: Tree, *lines: str) -> None:
    for line in lines:
        tree.add(line)
