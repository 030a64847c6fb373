"""docs/configuration.md follows the types; `--write` as an argument writes it anew."""

import re
import sys
import tomllib
from pathlib import Path

from hotseat.cli.views.settings import render_settings
from hotseat.supervisor.settings.reader import load_settings
from hotseat.supervisor.settings.reference import entries, section_meaning
from hotseat.supervisor.settings.values import Settings

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"
BLOCK = re.compile(r"(<!-- settings -->\n).*(<!-- end -->)", re.DOTALL)
EXAMPLE = re.compile(r"```toml\n(.*?)```", re.DOTALL)


def reference():
    lines, section = [], ""
    for entry in entries():
        if entry.section != section:
            section = entry.section
            lines += ["", f"### [{section}]", "", capital(section_meaning(section)), ""]
            lines += ["| setting | value | default | meaning | taken |", "|---|---|---|---|---|"]
        default = f"`{entry.default}`" if entry.default else "unset"
        meaning = entry.meaning.replace("|", "\\|")
        lines.append(f"| `{entry.name}` | {entry.kind} | {default} | {meaning} | {entry.taken} |")
    return "\n".join([*lines, "", ""])


def capital(text):
    return text[:1].upper() + text[1:]


def written():
    return BLOCK.sub(lambda found: found[1] + reference() + found[2], PAGE.read_text("utf-8"))


def test_reference_is_that_of_the_types():
    assert PAGE.read_text("utf-8") == written()


def test_every_setting_says_what_it_means():
    assert [f"{e.section}.{e.name}" for e in entries() if not e.meaning] == []


def test_example_of_the_page_can_be_used(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(EXAMPLE.search(PAGE.read_text("utf-8"))[1])
    settings = load_settings(file, {})
    assert settings.model("qwen3-8b").sampling.temperature == 0.6
    assert settings.aliases["gpt-4o"].use == "qwen3-14b"


def test_shown_defaults_are_a_file_that_sets_nothing(tmp_path):
    assert tomllib.loads(render_settings(Settings()))["seat"] == {}


def test_shown_settings_read_back_as_they_are(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(EXAMPLE.search(PAGE.read_text("utf-8"))[1])
    settings = load_settings(file, {})
    file.write_text(render_settings(settings))
    assert load_settings(file, {}) == settings


if __name__ == "__main__" and "--write" in sys.argv:
    PAGE.write_text(written(), "utf-8")
