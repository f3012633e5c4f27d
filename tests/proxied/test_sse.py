"""The splitter of events: no byte is lost or changed, and however the bytes come, the events are the same."""

from __future__ import annotations

import pytest
from cuts import cut, cuts, unhurried
from hypothesis import given
from hypothesis import strategies as st
from recorded import CHAT_STREAM, RECORDED, SSE

from costd.domain.proxied.sse import Event, EventSplitter

STREAMS = {name: answer.body for name, answer in RECORDED.items() if answer.content_type == SSE}
#: What the format is made of, in any disorder.
SHREDS = st.sampled_from(
    [b"\n", b"\r", b"\r\n", b"\n\n", b"data", b"data:", b"data: x", b"event: e", b":", b": c", b"\xef\xbb\xbf", b"\xff"]
)
SOUP = st.lists(SHREDS, max_size=40).map(b"".join)


def split(pieces: list[bytes], max_event_bytes: int = 1 << 20) -> tuple[list[Event], bytes]:
    splitter = EventSplitter(max_event_bytes)
    events = [event for piece in pieces for event in splitter.feed(piece)] + splitter.end()
    return events, splitter.rest()


def test_an_event_has_a_name_and_data() -> None:
    raw = b'event: message_stop\ndata: {"a":\ndata:1}\nid: 7\nretry: 1\nodd\n: comment\n\n'
    assert split([raw, b"data: cut"]) == ([Event("message_stop", b'{"a":\n1}', raw)], b"data: cut")


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_lines_end_in_three_ways(end: bytes) -> None:
    first, second = b"data: 1" + end + end, b"event: e" + end + b"data: 2" + end + end
    assert split([first + second]) == ([Event("", b"1", first), Event("e", b"2", second)], b"")


def test_a_byte_order_mark_and_comments_come_before_the_first_event() -> None:
    events, rest = split([b"\xef\xbb\xbfdata: 1\n\n: ping\n\n\n\ndata: 2\n\n"])
    assert [event.data for event in events] == [b"1", b"", b"", b"2"]
    assert rest == b""


def test_empty_lines_alone_are_an_event_without_data() -> None:
    assert split([b"\n\ndata: 1\n\n"]) == ([Event("", b"", b"\n\n"), Event("", b"1", b"data: 1\n\n")], b"")


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_may_break_at_any_byte(name: str) -> None:
    stream = STREAMS[name]
    whole = split([stream])
    assert b"".join(event.raw for event in whole[0]) + whole[1] == stream
    for position in range(len(stream)):
        assert split([stream[:position], stream[position:]]) == whole
    assert split([stream[at : at + 1] for at in range(len(stream))]) == whole


@unhurried
@given(SOUP, st.data())
def test_any_bytes_come_out_as_they_went_in(soup: bytes, data: st.DataObject) -> None:
    whole = split([soup])
    assert b"".join(event.raw for event in whole[0]) + whole[1] == soup
    assert split(cut(soup, data.draw(cuts(soup)))) == whole


@unhurried
@given(SOUP, st.data())
def test_an_event_that_is_too_long_is_passed_on_unread(soup: bytes, data: st.DataObject) -> None:
    stream = soup + b"data: " + b"x" * 200 + b"\n\ndata: after\n\n"
    events, rest = split(cut(stream, data.draw(cuts(stream))), max_event_bytes=64)
    assert b"".join(event.raw for event in events) + rest == stream
    assert events[-1].data == b"after"
    events, _ = split([stream[at : at + 1] for at in range(len(stream))], max_event_bytes=64)
    assert b"x" * 64 not in b"".join(event.data for event in events)


def test_a_long_event_leaves_as_it_comes() -> None:
    splitter = EventSplitter(1_000)
    passed = [len(b"".join(event.raw for event in splitter.feed(b"x" * 500))) for _ in range(6)]
    assert passed[:2] == [0, 0]
    assert min(passed[3:]) >= 500


def test_the_recorded_chat_has_five_chunks_and_an_end() -> None:
    events, _ = split([CHAT_STREAM])
    assert len(events) == 6
    assert events[-1].data == b"[DONE]"
