"""Examples for the help of every command, by its path. A test parses each of them."""

from typing import Final

import click

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "serve": ("hotseat serve --verbose",),
    "status": ("hotseat status", "hotseat status --json"),
    "ps": ("hotseat ps",),
    "queue": ("hotseat queue",),
    "models": (
        "hotseat models",
        "hotseat models --discover",
        "hotseat models --discover --for coding-agent",
        "hotseat models rm gemma",
    ),
    "models list": ("hotseat models list --json",),
    "models show": ("hotseat models show gemma",),
    "models rename": ("hotseat models rename gemma-3-270m-q4 gemma",),
    "models verify": ("hotseat models verify gemma",),
    "models rm": ("hotseat models rm gemma", "hotseat models rm gemma --yes"),
    "import": (
        "hotseat import model.gguf --name gemma",
        "hotseat import model.gguf --bits 6 --dry-run",
        "hotseat import ollama:qwen3:8b",
        "hotseat import ./folder-with-safetensors",
    ),
    "pull": (
        "hotseat pull mlx-community/Qwen3-8B-4bit --dry-run",
        "hotseat pull mlx-community/Qwen3-8B-4bit",
        "hotseat pull bartowski/Qwen_Qwen3-8B-GGUF --file Qwen_Qwen3-8B-Q4_K_M.gguf",
    ),
    "plan": ("hotseat plan gemma", "hotseat plan gemma --ram 24GiB"),
    "run": (
        'hotseat run gemma "What is a hot seat?"',
        'hotseat run gemma "And who sits there?" --session chat',
        "hotseat run gemma                  a chat; /help inside",
    ),
    "swap": ("hotseat swap gemma", "hotseat swap gemma --mode in-process --json"),
    "release": ("hotseat release", "hotseat release --for 30m"),
    "quote": ("hotseat quote", "hotseat quote gemma --session chat"),
    "why": ("hotseat why -n 3",),
    "count": ('hotseat count gemma "How long is this?"',),
    "cancel": ("hotseat cancel 6f1c2a    an ID of `hotseat queue`",),
    "sessions": ("hotseat sessions", "hotseat sessions --model gemma"),
    "sessions list": ("hotseat sessions list --model gemma",),
    "sessions show": ("hotseat sessions show gemma chat",),
    "sessions rm": ("hotseat sessions rm gemma chat",),
    "sessions fork": ("hotseat sessions fork gemma chat other --at-turn 2",),
    "sessions copy": ("hotseat sessions copy planner plan critic review",),
    "sessions rewind": ("hotseat sessions rewind gemma chat 2",),
    "sessions replace": ("hotseat sessions replace gemma chat summary.json",),
    "sessions pin": ("hotseat sessions pin gemma chat",),
    "sessions unpin": ("hotseat sessions unpin gemma chat",),
    "forget": ("hotseat forget --agent claude-cli", "hotseat forget --older 30 --yes"),
    "disk": ("hotseat disk",),
    "kv": ("hotseat kv gc --dry-run",),
    "kv verify": ("hotseat kv verify",),
    "kv gc": ("hotseat kv gc --dry-run",),
    "kv rebuild": ("hotseat kv rebuild",),
    "events": ("hotseat events --follow --topic swap",),
    "logs": ("hotseat logs --follow",),
    "gateway": ("hotseat gateway", 'eval "$(hotseat gateway --print-env)"'),
    "launch": (
        "hotseat launch claude --model qwen3-14b",
        "hotseat launch codex -- exec 'Explain this folder.'",
    ),
    "key": ("hotseat key add bob --models gemma --no-swap",),
    "key add": ("hotseat key add bob --models gemma --no-swap --max-waiting 4",),
    "key list": ("hotseat key list",),
    "key revoke": ("hotseat key revoke bob",),
    "endpoint": ("hotseat endpoint", 'eval "$(hotseat endpoint --env)"'),
    "stop": ("hotseat stop", "hotseat stop gemma"),
    "restart": ("hotseat restart",),
    "config": ("hotseat config show", "hotseat config check"),
    "config check": ("hotseat config check",),
    "config show": ("hotseat config show",),
    "reload": ("hotseat config check && hotseat reload",),
    "upgrade": ("hotseat upgrade --check",),
    "doctor": ("hotseat doctor",),
    "selftest": ("hotseat selftest --quick", "hotseat selftest --soak 2h"),
    "service": ("hotseat service install", "hotseat service status"),
    "service install": ("hotseat service install", "hotseat service install --system    with sudo"),
    "service uninstall": ("hotseat service uninstall", "hotseat service uninstall --purge"),
    "service start": ("hotseat service start",),
    "service stop": ("hotseat service stop",),
    "service restart": ("hotseat service restart",),
    "service status": ("hotseat service status",),
    "service logs": ("hotseat service logs --follow",),
    "demo": (
        "hotseat demo",
        "hotseat demo --without-gemma",
        "hotseat demo --too-large",
        "hotseat demo --five-phases --models qwen3:8b,qwen3:32b",
        "hotseat demo --five-phases --limit 1GiB    on Linux, as root",
    ),
    "completion": ('eval "$(hotseat completion zsh)"', "hotseat completion fish | source"),
    "help": ("hotseat help", "hotseat help run"),
    "version": ("hotseat version",),
    "top": ("hotseat top",),
    "record": ("hotseat record",),
    "report": ("hotseat report recording.jsonl",),
}


def show_examples(command: click.Command, path: str) -> click.Command:
    """Puts the examples at the end of the help of a command and of those below it."""
    if path in EXAMPLES and not command.epilog:
        lines = "\n".join(f"  {example}" for example in EXAMPLES[path])
        command.epilog = f"\b\nExamples:\n{lines}"
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            show_examples(inner, f"{path} {name}")
    return command
