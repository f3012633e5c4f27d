"""A Python client of the ingest API, in the shape its document gives."""

import os
from typing import Any

import requests

BASE = os.getenv("CODINGVIBEZ_BASE", "https://codingvibez.com")
KEY = os.getenv("CODINGVIBEZ_API_KEY")


def _send(body: dict[str, Any]) -> Any:
    r = requests.post(
        f"{BASE}/api/ingest",
        headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
        json=body,
    )
    r.raise_for_status()
    return r.json()


def ingest_cost(service: str, amount: float, month: int, year: int, **kwargs: Any) -> Any:
    return _send(
        {"type": "cost", "service": service, "data": {"amount": amount, "month": month, "year": year, **kwargs}}
    )


def ingest_tokens(service: str, month: int, year: int, tokens_used: int, **kwargs: Any) -> Any:
    return _send(
        {
            "type": "tokens",
            "service": service,
            "data": {"month": month, "year": year, "tokens_used": tokens_used, **kwargs},
        }
    )
