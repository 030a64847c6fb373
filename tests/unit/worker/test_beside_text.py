"""What a tensor is for, by its name: towers and drafting layers, and nothing of the text."""

import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes
from tests.support.models.kinds.table import ARCHITECTURES

from hotseat.library.configuration import text_table
from hotseat.worker.model.beside_text import part_beside_text


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.layers.2.mlp.up_proj.weight", ""),
        ("model.layers.3.mlp.up_proj.weight", "drafting"),
        ("model.layers.3.eh_proj.weight", "drafting"),
        ("mtp.fc.weight", "drafting"),
        ("language_model.mtp_block.0.w", "drafting"),
        ("vision_tower.encoder.layers.1.w", "images"),
        ("model.visual.blocks.9.w", "images"),
        ("audio_tower.conv.weight", "sound"),
        ("model.mtpfoo.weight", ""),
        ("lm_head.weight", ""),
    ],
)
def test_name_of_a_tensor_tells_what_it_is_for(name, part):
    assert part_beside_text(name, 3) == part


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda one: one.kind)
def test_no_tensor_of_a_tried_kind_is_taken_for_something_beside_text(architecture):
    config = architecture.config()
    model_class, arguments_class = _get_classes(config)
    model = model_class(arguments_class.from_dict(architecture.config()))
    layers = text_table(config)["num_hidden_layers"]
    names = [name for name, _ in tree_flatten(model.parameters())]
    assert [name for name in names if part_beside_text(name, layers)] == []
