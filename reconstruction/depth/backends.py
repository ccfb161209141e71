"""Depth backends by name: what `depth.backend` of the configuration opens."""

from __future__ import annotations

from pathlib import Path

from reconstruction.checkpoint import device
from reconstruction.depth import DepthEstimator
from schemas.config import DepthConfig
from schemas.reasons import UsageError

# Those that estimate depth from frames alone, and need torch.
NETWORKS = ("pointmap", "transformers")


def open_network(config: DepthConfig) -> DepthEstimator:
    """The network that the configuration names; kept for the process' lifetime.

    Raises:
        UsageError: torch, or the checkpoint, is not here; or it is of another kind.
    """
    try:
        if config.backend == "pointmap":
            from reconstruction.depth.pointmap.estimator import open_pointmap

            return open_pointmap(_checkpoint(config), batch=config.batch, compiled=config.compiled)
        from reconstruction.depth.transformers_depth import open_depth

        return open_depth(_named(config), batch=config.batch, compiled=config.compiled)
    except ModuleNotFoundError as error:
        raise _not_here(config, error) from error


def network_identity(config: DepthConfig) -> str:
    """What a network's output depends on, for fingerprints; empty where none is run.

    Raises:
        UsageError: as `open_network`.
    """
    if config.backend == "pointmap":
        try:
            import timm
            import torch

            from reconstruction.depth.pointmap.checkpoint import checkpoint_hash
        except ModuleNotFoundError as error:
            raise _not_here(config, error) from error
        libraries = f"torch=={torch.__version__} timm=={timm.__version__}"
        return f"{checkpoint_hash(_checkpoint(config))} {libraries} {device()}"
    if config.backend == "transformers":
        from reconstruction.depth.transformers_depth import identity

        return identity(_named(config))
    return ""


def _checkpoint(config: DepthConfig) -> Path:
    from reconstruction.depth.pointmap.checkpoint import embedded_checkpoint

    path = embedded_checkpoint() if config.model is None else Path(config.model)
    if not path.is_file():
        raise UsageError(f"depth.model is {path}, which is no file; expected a .safetensors")
    return path


def _named(config: DepthConfig) -> str:
    assert config.model is not None  # the configuration refuses that
    return config.model


def _not_here(config: DepthConfig, error: ModuleNotFoundError) -> UsageError:
    return UsageError(
        f"depth.backend {config.backend} needs {error.name}: pip install 'robo4d[depth]'"
    )
