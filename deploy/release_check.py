"""Checks a tag before its wheel is built: `python deploy/release_check.py v1.2.3`.

The tag names the version of the code, and the changelog has a section of that version which says
whether contexts of the version before stay warm. Needs nothing but Python.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_VERSION = re.compile(r'^VERSION: Final = "([^"]+)"', re.MULTILINE)
_SECTION = re.compile(r"^## \[([^\]]+)\].*$", re.MULTILINE)
_CONTEXTS = re.compile(r"^Contexts: (?:warm|cold)\b.*\.$", re.MULTILINE)


def complaints(tag: str, code: str, changelog: str) -> list[str]:
    """What keeps `tag` from being released; `code` is the text of version.py."""
    found = _VERSION.search(code)
    version = found[1] if found is not None else ""
    wrong = []
    if tag != f"v{version}":
        wrong.append(f"the tag is {tag}, the code is version {version}; tag v{version}")
    if version not in sections(changelog):
        wrong.append(f"CHANGELOG.md has no section `## [{version}]`; rename the one on top")
    else:
        wrong += unsaid(version, changelog)
    return wrong


def unsaid(version: str, changelog: str) -> list[str]:
    """Why the section of `version` does not say what becomes of contexts."""
    if _CONTEXTS.search(sections(changelog)[version]):
        return []
    line = "`Contexts: warm.` or `Contexts: cold: WHICH AND WHY.`"
    return [f"section {version} of CHANGELOG.md lacks a line {line}"]


def sections(changelog: str) -> dict[str, str]:
    """Text by version, the topmost first."""
    heads = list(_SECTION.finditer(changelog))
    ends = [head.start() for head in heads[1:]] + [len(changelog)]
    return {head[1]: changelog[head.end() : end] for head, end in zip(heads, ends, strict=True)}


def main(tag: str) -> int:
    """Prints what is wrong; the exit code."""
    code = ROOT / "protocol" / "hotseat" / "protocol" / "version.py"
    wrong = complaints(tag, code.read_text("utf-8"), (ROOT / "CHANGELOG.md").read_text("utf-8"))
    for text in wrong:
        sys.stderr.write(f"{text}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
