"""Tables: nothing is lost, columns line up, and a terminal's width is kept."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from costd.cli.table import Look, Table, fold, pair_lines, width

ROWS = [
    ["checkout", "openai/gpt-4o", "1,234", "$0.5"],
    ["中文名字", "a-very-long-name-of-a-model-without-any-place-to-break-it", "7", "unpriced: 3"],
]
TABLE = Table(["app", "model", "requests", "cost"], ROWS, ["requests", "cost"], ["total", "", "1,241", "$0.5"], {})
words = st.text(st.sampled_from("ab 中é🎉-"), max_size=60)


def test_a_table_in_a_pipe_is_as_wide_as_its_cells() -> None:
    assert "\n".join(TABLE.lines(Look())) == (
        "app        model                                                       requests          cost\n"
        "─────────────────────────────────────────────────────────────────────────────────────────────\n"
        "checkout   openai/gpt-4o                                                  1,234          $0.5\n"
        "中文名字   a-very-long-name-of-a-model-without-any-place-to-break-it          7   unpriced: 3\n"
        "\n"
        "total                                                                     1,241          $0.5"
    )


def test_a_table_on_a_terminal_is_folded_to_its_width() -> None:
    assert "\n".join(TABLE.lines(Look(room=60))) == (
        "app        model                      requests          cost\n"
        "────────────────────────────────────────────────────────────\n"
        "checkout   openai/gpt-4o                 1,234          $0.5\n"
        "中文名字   a-very-long-name-of-a-mo          7   unpriced: 3\n"
        "           del-without-any-place-to\n"
        "           -break-it\n"
        "\n"
        "total                                    1,241          $0.5"
    )


def test_headings_and_words_stand_out_where_that_can_be_shown() -> None:
    table = Table(["what", "state"], [["disk", "ok"]], [], None, {"ok": "green"})
    header, _, row = table.lines(Look(is_styled=True, has_colours=True))
    assert header == "\x1b[1mwhat   state\x1b[0m"
    assert row == "disk   \x1b[32mok\x1b[0m"
    assert [*table.lines(Look(is_styled=True))][-1] == "disk   ok"


def test_a_table_without_rows_is_its_heading() -> None:
    assert [*Table(["a", "b"], [], ["b"], None, {}).lines(Look(room=20, ruler="-"))] == ["a   b", "-----"]


def test_values_go_on_below_their_beginning() -> None:
    pairs = [("state", "ready"), ("data folder", "/srv/costd of this very machine")]
    assert [*pair_lines(pairs, Look(room=30))] == [
        "state        ready",
        "data folder  /srv/costd of",
        "             this very machine",
    ]
    assert [*pair_lines([], Look())] == []


@settings(max_examples=300, deadline=None)
@given(text=words, room=st.integers(2, 40))
def test_folding_loses_nothing_and_keeps_the_width(text: str, room: int) -> None:
    lines = fold(text, room)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(width(line) <= room for line in lines)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(words, words, st.integers(0, 10**9).map(str)), max_size=6), room=st.integers(36, 120))
def test_no_line_is_wider_than_the_terminal(rows: list[tuple[str, str, str]], room: int) -> None:
    table = Table(["a", "b", "n"], rows, ["n"], None, {})
    assert all(width(line) <= room for line in table.lines(Look(room=room)))
