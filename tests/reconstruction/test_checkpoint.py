from __future__ import annotations

import pytest

from reconstruction.checkpoint import Checkpoint
from schemas.reasons import UsageError


def checkpoint(model: object) -> Checkpoint:
    return Checkpoint(str(model), "depth.model", "robo4d[depth]", "a depth model")


def test_a_model_is_a_folder_or_a_hub_id(tmp_path):
    assert checkpoint(tmp_path).local
    assert not checkpoint("hub:facebook/sam-vit-base").local
    for wrong in ("/nowhere/sam", "sam", "../sam", "checkpoints/sam", "hub:../sam", "hub:a/b/c"):
        with pytest.raises(UsageError, match=r"depth\.model is .*give the folder of a checkpoint"):
            assert checkpoint(wrong).local
