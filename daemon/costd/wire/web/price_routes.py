"""The routes of prices."""

from __future__ import annotations

from costd.wire.web import price_structs as types
from costd.wire.web import prices
from costd.wire.web.answers import Envelope
from costd.wire.web.route import Route


def price_routes() -> list[Route]:
    """Create, read, replace and delete prices; ask what a model costs."""
    one = "/api/prices/{id}"
    names = prices.FIELD_NAMES
    return [
        Route(
            "GET",
            "/api/prices",
            prices.list_prices,
            "The prices that were set",
            Envelope[types.PriceList],
            role="read",
            query=types.PriceQuery,
        ),
        Route(
            "POST",
            "/api/prices",
            prices.set_price,
            "Set a price",
            Envelope[types.PriceSet],
            role="admin",
            body=types.PriceBody,
            field_names=names,
        ),
        Route(
            "GET",
            "/api/prices/match",
            prices.match_price,
            "What a model costs at a moment, and why",
            Envelope[types.Matched],
            role="read",
            query=types.MatchQuery,
        ),
        Route("GET", one, prices.one_price, "One price, of the past too", Envelope[types.Price], role="read"),
        Route(
            "PUT",
            one,
            prices.replace_price,
            "Set a price in the place of another",
            Envelope[types.Price],
            role="admin",
            body=types.PriceBody,
            field_names=names,
        ),
        Route("DELETE", one, prices.remove_price, "Remove a price", Envelope[types.Price], role="admin"),
    ]
