"""Two agents on two models share the seat: `python two_agents.py MODEL_A MODEL_B`."""

import asyncio
import sys

from hotseat.client import AsyncClient


async def agent(name: str, model: str) -> None:
    """Three turns; the daemon seats the model whenever its turn comes."""
    async with AsyncClient(name=name) as client:
        for number in range(3):
            turn = [{"role": "user", "content": f"Step {number}, please."}]
            stream = client.generate(model, session=name, append=turn, max_tokens=24)
            done = await stream.result()
            usage = done.usage
            print(
                f"{name}: turn {done.turn}, {usage.restored_tokens} restored, "
                f"{usage.computed_tokens} computed, swap {done.timing.swap_s:.2f} s"
            )


async def main() -> None:
    """Both at once."""
    await asyncio.gather(agent("planner", sys.argv[1]), agent("writer", sys.argv[2]))


asyncio.run(main())
