"""Mix two depth checkpoints: the mean of their weights, where one's training began with the other.

::

    python -m jobs.mix_depth --new RUN9/checkpoint.safetensors --old RUN8/checkpoint.safetensors \\
      --share 0.25 --out mixed.safetensors

What was learned from new scenes is kept, and less is lost of what was known before (Wortsman et
al., "Robust fine-tuning of zero-shot models", CVPR 2022). Choose the share on a validation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs._options import explained
from schemas.reasons import UsageError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    new: Annotated[Path, typer.Option(help="checkpoint")],
    old: Annotated[Path, typer.Option(help="the one that it began with")],
    out: Annotated[Path, typer.Option(help="file to write")],
    share: Annotated[float, typer.Option(min=0, max=1, help="of the old one")] = 0.25,
) -> None:
    """Write the mean of two checkpoints' weights."""
    with explained(str(new)):
        from reconstruction.depth.pointmap.checkpoint import (
            checkpoint_hash,
            load_checkpoint,
            read_about,
            save_checkpoint,
        )

        if not out.parent.is_dir():
            raise UsageError(f"--out is {out}, whose folder is not there; make it first")
        network, before = load_checkpoint(new, "--new"), load_checkpoint(old, "--old")
        if network.config != before.config:
            raise UsageError(f"{new} and {old} are of other networks; mix two of the same")
        weights, others = network.state_dict(), before.state_dict()
        for name, value in weights.items():
            if value.is_floating_point():
                value.lerp_(others[name], share)
        parents = {
            kind: {"sha256": checkpoint_hash(path), "about": read_about(path)}
            for kind, path in (("new", new), ("old", old))
        }
        save_checkpoint(network, out, {"mix": parents, "old_share": share})


if __name__ == "__main__":
    app()
