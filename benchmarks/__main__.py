"""`python -m benchmarks [NAME [OPTION...]]`: one benchmark, or all of them; exit 1 if one misses.

Knows name and subject of a benchmark only; each is a module with `main(arguments) -> exit code`.
"""

import importlib
import sys
from collections.abc import Sequence

BENCHMARKS = {
    "simulator": "scheduling",
    "swap-warm": "swaps",
    "swap-cold": "swaps",
    "swap-streamed": "swaps",
    "checkpoint": "kv",
    "footprint": "swaps",
    "timeline": "swaps",
    "suspension": "kv",
    "versus-server": "peers",
    "versus-returning": "peers",
    "resume": "kv",
    "restore-rate": "kv",
    "checkpoint-rate": "kv",
    "decode": "peers",
    "relay": "serving",
    "gateway": "serving",
    "gateway-waits": "serving",
    "parsing": "serving",
    "prefill": "serving",
    "agents": "peers",
    "http-agents": "peers",
    "shared-prefix": "kv",
    "wear": "kv",
    "telemetry": "serving",
    "fork": "kv",
    "cold-sessions": "kv",
    "library": "library",
}
EXPERIMENTS = {
    "beyond": "proof",
    "chaos": "proof",
    "degrade": "proof",
    "kinds": "kinds",
    "reclaim": "swaps",
}
"""Run only when they are named: they rewrite what a page is drawn of, and three need root."""


def main(arguments: Sequence[str]) -> int:
    """Runs what was named; the worst exit code."""
    known = BENCHMARKS | EXPERIMENTS
    if arguments and arguments[0] not in known:
        print(f"no benchmark {arguments[0]!r}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    names = arguments[:1] or BENCHMARKS
    return max(run(name, arguments[1:]) for name in names)


def run(name: str, arguments: Sequence[str]) -> int:
    """One benchmark in this process."""
    subject = (BENCHMARKS | EXPERIMENTS)[name]
    module = importlib.import_module(f"benchmarks.{subject}.{name.replace('-', '_')}")
    return int(module.main(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
