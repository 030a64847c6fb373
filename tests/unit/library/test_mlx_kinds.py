"""The kinds that mlx-lm knows are told without importing it."""

from mlx_lm.utils import MODEL_REMAPPING, _get_classes

from hotseat.library.mlx_kinds import known_kinds


def test_kinds_are_the_files_of_mlx_lm_and_its_other_names():
    assert set(MODEL_REMAPPING) <= known_kinds()
    for kind in ("llama", "qwen3", "gemma3", *sorted(MODEL_REMAPPING)):
        assert kind in known_kinds()
        assert _get_classes({"model_type": kind})
    assert "no_such_kind" not in known_kinds()
