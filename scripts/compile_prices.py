"""Recompiles the price table that ships with costd from the pinned genai-prices."""

from __future__ import annotations

from pathlib import Path

from costd.store.price_compiler import write_table

TABLE = Path(__file__).resolve().parent.parent / "daemon" / "costd" / "data" / "prices.txt"

if __name__ == "__main__":
    TABLE.parent.mkdir(exist_ok=True)
    write_table(TABLE)
    print(f"{TABLE}: {TABLE.stat().st_size:,} bytes")
