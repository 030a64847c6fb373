"""Counts what a request would feed, with the renderer that would render it. Must not know KV.

Says as well whether the form that it asks for can be kept: before a swap nobody else can.
"""

from hotseat.protocol.errors import HotseatError
from hotseat.protocol.link_orders import CountPrompt
from hotseat.protocol.link_reports import Counted
from hotseat.protocol.tokens import pack_tokens
from hotseat.worker.batch.form import check_form
from hotseat.worker.batch.turn import render_prompt
from hotseat.worker.model.preparing import TokenizerKit


def count_prompt(kit: TokenizerKit, order: CountPrompt) -> Counted:
    """The ids of the prompt, and its text if that was asked for; a refusal is an answer too."""
    request = order.start.request
    try:
        prompt = render_prompt(kit.renderer, order.start)
        check_form(order.start, kit, order.record.template.tool_parser)
    except HotseatError as error:
        return Counted(request=request, code=error.code, message=error.message, facts=error.facts)
    except Exception as error:  # noqa: BLE001 - a strange template must not take the worker down
        reason = " ".join(str(error).split()) or type(error).__name__
        return Counted(
            request=request,
            code="internal",
            message=f"the prompt could not be rendered ({type(error).__name__}: {reason[:200]})",
        )
    text = str(kit.tokenizer.decode(prompt)) if order.wants_text else ""
    return Counted(request=request, tokens=pack_tokens(prompt), text=text)
