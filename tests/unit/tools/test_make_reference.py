"""The generated parts of the documentation are what the code says."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from sheepfold import config
from tools.make_reference import DOCS, FILES
from tools.reference_pages import commands, decisions, lan_api, redis_keys, settings
from tools.reference_pages.field_comments import described
from tools.reference_pages.markdown import NoDescription, plain, table


@pytest.mark.parametrize("name", FILES)
def test_a_generated_file_is_what_the_code_says(name: str) -> None:
    path = DOCS / name
    assert path.is_file(), f"docs/{name} is missing: run `make reference`"
    assert path.read_text(encoding="utf-8") == FILES[name](), (
        f"docs/{name} is not what the code says: run `make reference`"
    )


def test_every_setting_is_on_the_page() -> None:
    page = settings.page_text()
    for name in config.SETTINGS | config.VARIABLES.keys():
        assert f"| `{name.upper()}` |" in page


class Described(BaseSettings):
    #: What it is,
    #: in two lines.
    told: int = 1
    untold: int = 2


class Inherits(Described):
    other: int = 3


def test_a_comment_above_a_field_describes_it_also_where_it_is_inherited() -> None:
    assert described(Described, "told") == "What it is, in two lines."
    assert described(Inherits, "told") == "What it is, in two lines."


@pytest.mark.parametrize(("kind", "name"), [(Described, "untold"), (Inherits, "other")])
def test_a_field_without_a_comment_stops_the_generator_with_its_name(kind: type[BaseSettings], name: str) -> None:
    with pytest.raises(NoDescription, match=rf"{kind.__name__}\.{name}"):
        described(kind, name)


def test_a_value_of_an_enumeration_is_described_by_the_comment_above_it() -> None:
    class Colour(Enum):
        #: Like blood.
        RED = "red"

    assert described(Colour, "RED") == "Like blood."


def test_a_command_without_help_stops_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    @commands.app.command()
    def riddle() -> None: ...

    try:
        with pytest.raises(NoDescription, match="sheepfold riddle"):
            commands.page_text()
    finally:
        commands.app.registered_commands.pop()


def test_a_redis_key_that_no_table_tells_of_stops_the_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "sheepfold"
    package.mkdir()
    rows = "    sheepfold:told   hash   what it holds\n                            and more"
    (package / "told.py").write_text(f'"""Keys::\n\n{rows}\n"""\n')
    monkeypatch.setattr(redis_keys, "ROOT", tmp_path)
    assert "| `sheepfold:told` | hash | what it holds and more | `sheepfold.told` |" in redis_keys.page_text()
    (package / "untold.py").write_text('KEY = "sheepfold:untold"\n')
    with pytest.raises(NoDescription, match="sheepfold:untold"):
        redis_keys.page_text()


def test_a_path_of_the_api_that_the_contract_does_not_tell_of_needs_a_docstring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "app.py").write_text('@app.get("/api/riddle")\ndef riddle(): ...\n')
    monkeypatch.setattr(lan_api, "API", tmp_path)
    with pytest.raises(NoDescription, match="GET /api/riddle"):
        lan_api.page_text()


def test_a_decision_without_a_status_stops_the_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0001-told.md").write_text("# 0001 Told\n\n- Date: 2026-11-27\n- Status: accepted\n\nText.\n")
    monkeypatch.setattr(decisions, "FOLDER", tmp_path)
    assert "[Told](0001-told.md)" in decisions.page_text()
    (tmp_path / "0002-untold.md").write_text("# 0002 Untold\n\nText.\n")
    with pytest.raises(NoDescription, match="0002-untold"):
        decisions.page_text()


def test_restructured_text_becomes_markdown() -> None:
    assert plain("A :class:`~a.b.Thing`\nof ``code``") == "A `Thing` of `code`"


def test_a_bar_in_a_cell_ends_no_cell() -> None:
    assert table(["a"], [["x | y"]]) == "| a |\n| --- |\n| x \\| y |"
