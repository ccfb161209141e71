"""Checkpoints of `transformers` that a setting names: found, loaded, and told apart."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from schemas.reasons import UsageError

_LIBRARIES = ("torch", "torchvision", "transformers", "pillow")
# A folder that is not there must not become a download under a stranger's name.
_HUB = "hub:"
_HUB_ID = re.compile(r"hub:[\w-][\w.-]*/[\w.-]+")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Checkpoint:
    """A network's folder, or ``hub:owner/name``, which is downloaded.

    Attributes:
        model: as the setting names it.
        setting: whose value ``model`` is, for messages.
        extra: what to install, for messages.
        family: what kind of network is expected, for messages.
    """

    model: str
    setting: str
    extra: str
    family: str

    @property
    def local(self) -> bool:
        """Whether it is a folder, from which alone it is read then; else it is a hub id.

        Raises:
            UsageError: neither.
        """
        if _HUB_ID.fullmatch(self.model):
            return False
        if Path(self.model).is_dir():
            return True
        raise UsageError(
            f"{self.setting} is {self.model!r}: no such folder; give the folder of a checkpoint, "
            "or hub:owner/name to download one"
        )

    def load(self, network_class: str, processor_class: str) -> tuple[Any, Any]:
        """The network, in evaluation mode on the first GPU where torch sees one, and its processor.

        Args:
            network_class, processor_class: names of `transformers`' Auto classes.

        Raises:
            UsageError: torch or transformers, the checkpoint, or some of its weights are missing;
                or it is another kind of network.
        """
        local = self.local
        self._versions()
        # Imported here: they take seconds to load, and most builds do without.
        import transformers
        from safetensors import SafetensorError

        where = self.model.removeprefix(_HUB)
        # A checkpoint's own code is never run, and nobody is asked whether it may be.
        how = {"local_files_only": local, "trust_remote_code": False}
        try:
            network, loaded = getattr(transformers, network_class).from_pretrained(
                where, output_loading_info=True, use_safetensors=True, **how
            )
            processor = getattr(transformers, processor_class).from_pretrained(where, **how)
        # What transformers raises for missing, odd or broken files, and weights of another shape.
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise UsageError(
                f"{self.setting} is {self.model!r}: {error}; name a folder with config.json, "
                f"preprocessor_config.json and model.safetensors of {self.family}"
                f"{self._pickled() if local else ''}"
            ) from error
        if missing := sorted(loaded["missing_keys"]):
            raise UsageError(
                f"{self.setting} is {self.model!r}: {len(missing)} weights are not there, "
                f"{missing[0]} first; name a checkpoint that is whole"
            )
        return network.eval().to(device()), processor

    def identity(self) -> str:
        """What its output depends on, for fingerprints: the folder's files, the libraries'
        versions, and whether a GPU computes it.

        Of a hub id only its name is known: what it names may change.

        Raises:
            UsageError: there is no such folder, or torch or transformers are not installed.
        """
        digest = hashlib.sha256(f"{self._versions()} {device()}".encode())
        if not self.local:
            return f"{self.model}@{digest.hexdigest()}"
        for path in sorted(Path(self.model).iterdir()):
            if path.suffix in (".json", ".safetensors"):
                with path.open("rb") as file:
                    digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def _pickled(self) -> str:
        files = [path.name for path in Path(self.model).iterdir() if path.suffix in _PICKLED]
        if not files:
            return ""
        return f"; {min(files)} is pickled, which may run code, and never read: convert it"

    def _versions(self) -> str:
        try:
            return _versions()
        except PackageNotFoundError as error:
            raise UsageError(
                f"{self.setting} wants {error.name}, which is not installed: "
                f"pip install '{self.extra}'"
            ) from error


def device() -> str:
    """Where networks run: on the first GPU where torch sees one, else on the CPU, in one thread.

    Sums are added up in another order on each number of threads, and a shard's bytes may not depend
    on cores (see `pipeline.build`).
    """
    import torch

    if torch.cuda.is_available():
        return "cuda"
    torch.set_num_threads(1)
    return "cpu"


def _versions() -> str:
    return " ".join(f"{name}=={version(name)}" for name in _LIBRARIES)
