"""An agent of the package `openai-agents` calls a function of ours, over the gateway.

eval "$(hotseat gateway --print-env)" && python openai_agents.py MODEL
"""

import sys
from typing import Literal

from agents import Agent, ModelSettings, Runner, function_tool, set_tracing_disabled


@function_tool
def weather(town: Literal["Rome", "Lima"]) -> str:
    """Tell the weather in a town."""
    print(f"the model wants weather({town})")
    return "sunny, 24 degrees"


set_tracing_disabled(disabled=True)  # traces would go to the makers of the package
agent = Agent(
    name="forecaster",
    instructions="Be brief.",
    model=sys.argv[1],
    tools=[weather],
    # Asked for once: the package itself leaves it to the model after the first result.
    model_settings=ModelSettings(tool_choice="required", max_tokens=300),
)
result = Runner.run_sync(agent, "What is the weather in Rome?")
print(result.final_output)
used = result.context_wrapper.usage
cached = used.input_tokens_details.cached_tokens
print(
    f"{used.requests} requests, {used.input_tokens} tokens in, {cached} of them not computed again"
)
