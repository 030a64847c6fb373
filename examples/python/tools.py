"""A model calls a function of ours: `python tools.py MODEL`."""

import json
import sys

from hotseat.client import Client

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a town.",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string", "enum": ["Rome", "Lima"]}},
            "required": ["town"],
            "additionalProperties": False,
        },
    },
}

with Client(name="tools") as client:
    question = {"role": "user", "content": "What is the weather in Rome?"}
    asked = client.generate(
        sys.argv[1],
        session="weather",
        append=[question],
        tools=[WEATHER],
        tool_choice="required",
        max_tokens=300,
    ).result()
    for call in asked.tool_calls:
        town = json.loads(call.arguments)["town"]
        print(f"the model wants {call.name}({town})")
        result = {"role": "tool", "content": "sunny, 24 degrees", "tool_call_id": call.id}
        told = client.generate(
            sys.argv[1], session="weather", append=[result], tool_choice="none", max_tokens=40
        )
        print(told.result().text)
