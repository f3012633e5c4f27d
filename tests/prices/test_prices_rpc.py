"""Prices over gRPC: every refusal names its field, and nothing that is refused leaves a trace."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from price_calls import bearer_only, list_prices, new_price, record, refused, set_prices
from price_tables import LIST_BODY, table_body

from callers import Stubs, stubs
from costd.v1 import prices_pb2
from harness import Daemon, costd

VERSION = "t1"
ACME = {"acme": [(["=", "acme-1"], {"id": "acme-1", "prices": [[None, {"input_tokens": [7, 0]}]]})]}


@pytest.fixture(scope="module")
def services(daemon: Daemon) -> Iterator[Stubs]:
    with stubs(daemon) as found:
        yield found


def unit(unit: str, usd: str, *tiers: tuple[int, str]) -> prices_pb2.UnitPrice:
    return prices_pb2.UnitPrice(
        unit=unit, usd=usd, tiers=[prices_pb2.PriceTier(above_input_tokens=at, usd=more) for at, more in tiers]
    )


GOOD = new_price("fine", {"images": "1"}, from_ms=1_700_000_000_000)
BAD: list[tuple[prices_pb2.NewPrice, str]] = [
    (new_price("", {"images": "1"}), "model"),
    (new_price("x*y", {"images": "1"}), "model"),
    (new_price("bad"), "rates"),
    (new_price("bad", {"images": "-1"}), "rates[0].usd"),
    (new_price("bad", {"images": "one"}), "rates[0].usd"),
    (new_price("bad", {"images": ""}), "rates[0].usd"),
    (new_price("bad", {"images": "1_0"}), "rates[0].usd"),
    (new_price("bad", {"images": "1" * 5000}), "rates[0].usd"),
    (new_price("bad", {"images": "NaN"}), "rates[0].usd"),
    (new_price("bad", {"images": "1e-99"}), "rates[0].usd"),
    (new_price("bad", {"Images": "1"}), "rates.Images"),
    (prices_pb2.NewPrice(model="bad", rates=[unit("chars", "1"), unit("input_characters", "1")]), "rates[1].unit"),
    (prices_pb2.NewPrice(model="bad", rates=[unit("images", "1", (0, "2"))]), "rates[0].tiers[0].above_input_tokens"),
    (prices_pb2.NewPrice(model="bad", rates=[unit("images", "1", (5, "x"))]), "rates[0].tiers[0].usd"),
    (prices_pb2.NewPrice(model="bad", rates=[unit("images", "1", (5, "2"), (5, "3"))]), "rates.images"),
    (new_price("bad", multiplier="x"), "multiplier"),
    (new_price("bad", multiplier="1001"), "multiplier"),
    (new_price("bad", {"images": "1"}, when={"": "x"}), "when"),
    (new_price("bad", {"images": "1"}, when={f"k{n}": "x" for n in range(17)}), "when"),
    (new_price("bad", {"images": "1"}, from_ms=5), "from_ms"),
    (new_price("bad", {"images": "1"}, from_ms=2 * 10**12, until_ms=2 * 10**12), "until_ms"),
    (new_price("bad", {"images": "1"}, note="\x1b[0m"), "note"),
    (new_price("bad", {"cache_read_tokens": "1"}), "rates"),
]


@pytest.mark.parametrize(("price", "field"), BAD)
def test_one_bad_price_stops_all_and_is_named(services: Stubs, price: prices_pb2.NewPrice, field: str) -> None:
    """By its place in the request, in the request's own words."""
    status, fields = refused(lambda: set_prices(services, GOOD, price))
    assert (status, list(fields)) == ("INVALID_ARGUMENT", [f"prices[1].{field}"])
    assert list_prices(services, model="fine", removed=True) == []


def test_a_request_must_hold_prices_and_not_too_many(services: Stubs) -> None:
    assert refused(lambda: set_prices(services)) == ("INVALID_ARGUMENT", {"prices": "are missing: give at least one"})
    status, fields = refused(lambda: set_prices(services, *[GOOD] * 10_001))
    assert status == "INVALID_ARGUMENT"
    assert "10000" in fields["prices"]
    assert refused(lambda: set_prices(services, new_price("x", multiplier="1", org="nobody")))[1].keys() == {"org"}


def test_later_prices_win_over_earlier_ones_of_the_same_request(services: Stubs) -> None:
    """And what nothing is left of goes, but stays in the history."""
    first, second, third = (
        new_price("order", rates, from_ms=1_700_000_000_000)
        for rates in ({"images": "1", "moons": "5"}, {"images": "2"}, {"images": "3"})
    )
    outcomes = set_prices(services, first, second, third)
    assert all(done.is_new for done in outcomes)
    assert sorted(done.price.id for done in outcomes) == [done.price.id for done in outcomes]
    assert record(services, "order", {"images": 1, "moons": 1}) == 8 * 10**9
    in_books = [price.id for price in list_prices(services, model="order")]
    assert in_books == [outcomes[2].price.id, outcomes[0].price.id]
    assert len(list_prices(services, model="order", removed=True)) == 3
    again = set_prices(services, third)
    assert not again[0].is_new
    assert again[0].price.id == outcomes[2].price.id
    assert set_prices(services, second)[0].is_new  # another is in force: this one says something
    assert record(services, "order", {"images": 1, "moons": 1}) == 7 * 10**9


def test_a_price_without_a_date_is_not_set_twice(services: Stubs) -> None:
    """A file that is set again and again leaves no trail; what was changed meanwhile is set back."""
    said = new_price("gpt-4o-mini", {"input_tokens": "0.000001"})
    assert [set_prices(services, said)[0].is_new for _ in range(3)] == [True, False, False]
    other = set_prices(services, new_price("gpt-4o-mini", {"input_tokens": "0.000002"}))[0]
    assert other.is_new
    assert other.before.rates[0].usd == "1"
    assert set_prices(services, said)[0].is_new
    assert record(services, "gpt-4o-mini", {"input_tokens": 1}) == 1000


def test_many_at_once(services: Stubs) -> None:
    """Thousands are one transaction."""
    prices = [new_price(f"many-{n}", {"images": str(n)}, from_ms=1_700_000_000_000) for n in range(1500)]
    assert len(set_prices(services, *prices)) == 1500
    assert record(services, "many-1499", {"images": 2}) == 2 * 1499 * 10**9
    assert not any(done.is_new for done in set_prices(services, *prices))


def test_two_who_set_prices_at_once_both_do(services: Stubs) -> None:
    """Each is answered with its own, and the books hold both."""

    def work(name: str) -> None:
        for n in range(8):
            done = set_prices(services, new_price(f"{name}-{n}", {"images": str(n)}))
            assert done[0].price.model == f"{name}-{n}"
            assert record(services, f"{name}-{n}", {"images": 1}) == n * 10**9

    threads = [threading.Thread(target=work, args=(name,)) for name in ("left", "right")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {price.model for price in list_prices(services)}
    assert found >= {f"{name}-{n}" for name in ("left", "right") for n in range(8)}


def test_keys_that_may_not_change_prices_change_nothing(daemon: Daemon, services: Stubs) -> None:
    reader, sender, gone = (daemon.key(f"r-{role}", role=role) for role in ("read", "ingest", "admin"))
    costd("keys", "revoke", "r-admin", "--data-dir", str(daemon.data_dir))
    admin = services.admin
    changes: list[tuple[Any, Any]] = [
        (admin.SetPrices, prices_pb2.SetPricesRequest(prices=[GOOD])),
        (admin.RemovePrice, prices_pb2.RemovePriceRequest(id="0")),
        (admin.ImportPrices, prices_pb2.ImportPricesRequest(kind="file", body=zlib.compress(table_body(ACME)))),
        (admin.DropPrices, prices_pb2.DropPricesRequest(kind="file")),
        (admin.GetPriceTables, prices_pb2.GetPriceTablesRequest(bodies=True)),
    ]
    reads: list[tuple[Any, Any]] = [
        (admin.ListPrices, prices_pb2.ListPricesRequest()),
        (admin.MatchPrice, prices_pb2.MatchPriceRequest(model="gpt-4o")),
        (admin.GetPriceTables, prices_pb2.GetPriceTablesRequest()),
        (admin.ListUnpriced, prices_pb2.ListUnpricedRequest()),
    ]
    for method, request in changes + reads:
        for key, status in ((sender, "PERMISSION_DENIED"), (gone, "UNAUTHENTICATED"), ("", "UNAUTHENTICATED")):
            assert refused(lambda m=method, r=request, k=key: m(r, **bearer_only(k)))[0] == status
    for method, request in changes:
        assert refused(lambda m=method, r=request: m(r, **bearer_only(reader)))[0] == "PERMISSION_DENIED"
    for method, request in reads:
        assert method(request, **bearer_only(reader))
    assert list_prices(services, model="fine", removed=True) == []


def import_table(services: Stubs, body: bytes, kind: str = "file", version: str = VERSION) -> prices_pb2.PriceTables:
    request = prices_pb2.ImportPricesRequest(kind=kind, version=version, name="prices.json", body=body)
    answer: prices_pb2.PriceTables = services.admin.ImportPrices(request, metadata=services.metadata, timeout=30)
    return answer


def test_a_table_is_put_in_force_and_taken_out_again(services: Stubs) -> None:
    """A file stands before the list; a list takes the place of the installed one."""
    assert record(services, "acme-1", {"input_tokens": 2}) is None
    made = import_table(services, zlib.compress(table_body(ACME)))
    assert (made.file.version, made.file.name, made.file.body) == (VERSION, "prices.json", b"")
    assert record(services, "acme-1", {"input_tokens": 2}) == 14_000
    request = prices_pb2.GetPriceTablesRequest(bodies=True)
    held = services.admin.GetPriceTables(request, metadata=services.metadata, timeout=30)
    assert zlib.decompress(held.file.body) == table_body(ACME)
    assert zlib.decompress(held.list.body) == LIST_BODY
    drop = prices_pb2.DropPricesRequest(kind="file")
    assert not services.admin.DropPrices(drop, metadata=services.metadata).HasField("file")
    assert record(services, "acme-1", {"input_tokens": 2}) is None
    assert refused(lambda: services.admin.DropPrices(drop, metadata=services.metadata))[0] == "NOT_FOUND"

    import_table(services, zlib.compress(table_body(ACME, "t2")), "list", "t2")
    assert record(services, "acme-1", {"input_tokens": 2}) == 14_000
    assert record(services, "o3-mini", {"input_tokens": 2}) is None
    back = services.admin.DropPrices(prices_pb2.DropPricesRequest(kind="list"), metadata=services.metadata)
    assert back.list.version == back.installed_version
    assert record(services, "o3-mini", {"input_tokens": 2}) is not None


WHOLE = table_body(ACME)
HEAD, _, REST = WHOLE.partition(b"\n")
#: Bodies are made when they are wanted: to pack a bomb takes a second.
BAD_TABLES: list[tuple[str, Callable[[], bytes], dict[str, str], str]] = [
    ("no table", lambda: zlib.compress(b"{}"), {}, "table"),
    ("half a table", lambda: zlib.compress(WHOLE[:-5]), {}, "table"),
    ("another version", lambda: zlib.compress(WHOLE), {"version": "t9"}, "table"),
    ("prices that are none", lambda: zlib.compress(WHOLE.replace(b"[7, 0]", b'"7, 0"')), {}, "table"),
    ("another measure", lambda: zlib.compress(WHOLE.replace(b": [1000000,", b": [1000001,", 1)), {}, "table"),
    ("not deflated", lambda: WHOLE, {}, "body"),
    ("deflated in part", lambda: zlib.compress(WHOLE)[:-5], {}, "body"),
    ("with more behind it", lambda: zlib.compress(WHOLE) + b"x", {}, "body"),
    ("empty", lambda: b"", {}, "body"),
    ("a bomb", lambda: zlib.compress(bytes(200 * 2**20)), {}, "body"),
    ("another kind", lambda: zlib.compress(WHOLE), {"kind": "caller"}, "kind"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("pack", "fields", "field"), [bad[1:] for bad in BAD_TABLES], ids=[bad[0] for bad in BAD_TABLES]
)
def test_a_table_that_is_none_is_refused(
    services: Stubs, pack: Callable[[], bytes], fields: dict[str, str], field: str
) -> None:
    body = pack()
    status, named = refused(lambda: import_table(services, body, **fields))
    assert (status, list(named)) == ("INVALID_ARGUMENT", [field])
    held = services.admin.GetPriceTables(prices_pb2.GetPriceTablesRequest(), metadata=services.metadata)
    assert not held.HasField("file")


def test_bytes_that_are_no_request_change_nothing(services: Stubs) -> None:
    """Random bytes as tables and as prices: refused, or taken for what they are."""
    for seed in range(50):
        status, _ = refused(lambda n=seed: import_table(services, zlib.compress(os.urandom(n * 7))))
        assert status == "INVALID_ARGUMENT"


def test_asking_for_what_is_not_there(services: Stubs) -> None:
    def match(**fields: Any) -> prices_pb2.MatchedPrice:
        answer: prices_pb2.MatchedPrice = services.admin.MatchPrice(
            prices_pb2.MatchPriceRequest(**fields), metadata=services.metadata
        )
        return answer

    assert refused(lambda: match(model="unheard-of"))[0] == "NOT_FOUND"
    assert refused(match)[1].keys() == {"model"}
    assert refused(lambda: match(model="gpt-4o", org="nobody"))[1].keys() == {"org"}
    assert refused(lambda: match(model="gpt-4o", when={"a": "\x00"}))[1].keys() == {"when.a"}
    for at_ms in (-(2**63), 2**63 - 1, 0):
        assert match(model="gpt-4o", at_ms=at_ms).rates
    unpriced = prices_pb2.ListUnpricedRequest(since_ms=5, until_ms=5)
    assert refused(lambda: services.admin.ListUnpriced(unpriced, metadata=services.metadata))[1].keys() == {"until_ms"}
