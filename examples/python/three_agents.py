"""Three agents, two of them on one model: `python three_agents.py MODEL_A MODEL_B`.

The coder and the tester share a model, and the seat waits a moment while their tools run: a call
ends a reply, so the agent is expected back. The reviewer works on the other model meanwhile.
"""

import asyncio
import sys

from hotseat.client import AsyncClient
from hotseat.protocol.replies import Done

RUN = {
    "type": "function",
    "function": {
        "name": "run",
        "description": "Runs the tests.",
        "parameters": {
            "type": "object",
            "properties": {"suite": {"type": "string", "enum": ["unit", "all"]}},
            "required": ["suite"],
            "additionalProperties": False,
        },
    },
}
TOOL_S = 0.2
"""How long a tool takes."""


def report(name: str, done: Done) -> None:
    """One line per turn."""
    usage, swap_s = done.usage, done.timing.swap_s
    print(
        f"{name}: turn {done.turn}, {usage.restored_tokens} restored, "
        f"{usage.computed_tokens} computed, swap {swap_s:.2f} s"
    )


async def with_tools(name: str, model: str) -> None:
    """Asks, runs what was called, and tells the results in the next turn."""
    async with AsyncClient(name=name) as client:
        asked = await client.generate(
            model,
            session=name,
            append=[{"role": "user", "content": "Are the tests green?"}],
            tools=[RUN],
            tool_choice="required",
            max_tokens=300,
        ).result()
        report(name, asked)
        await asyncio.sleep(TOOL_S)
        results = [
            {"role": "tool", "content": "all green", "tool_call_id": call.id}
            for call in asked.tool_calls
        ]
        told = client.generate(
            model, session=name, append=results, tool_choice="none", max_tokens=24, yield_=True
        )
        report(name, await told.result())


async def alone(name: str, model: str) -> None:
    """Two turns without tools, and less in a hurry than the others."""
    async with AsyncClient(name=name) as client:
        for words in ("Review the change.", "And the tests?"):
            turn = [{"role": "user", "content": words}]
            stream = client.generate(model, session=name, append=turn, max_tokens=24, priority=-1)
            report(name, await stream.result())


async def main() -> None:
    """All at once."""
    one, other = sys.argv[1:]
    await asyncio.gather(
        with_tools("coder", one), with_tools("tester", one), alone("reviewer", other)
    )


asyncio.run(main())
