"""What `run` was told. Data only; must not know how a turn is asked for or shown."""

from typing import Self

import msgspec


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `run` was told besides the prompt."""

    model: str
    session: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    no_sampling_defaults: bool = False
    seed: int | None = None
    stop: tuple[str, ...] = ()
    system: str | None = None
    raw: bool = False
    priority: int | None = None
    deadline_s: float | None = None
    tools_file: str | None = None
    tool_choice: str | None = None
    answer_format: str | None = None
    template_arg: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: str, given: dict[str, object]) -> Self:
        """From click's parameters."""
        return msgspec.convert({"model": model, **given}, cls)
