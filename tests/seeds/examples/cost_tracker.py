"""An application with the preflight/record document's client in it; the paid call is simulated."""

import logging
import time
from types import SimpleNamespace
from typing import Any

import httpx

logger = logging.getLogger(__name__)
settings = SimpleNamespace(cost_tracker_base_url="", cost_tracker_api_key="", cost_tracker_source_app="my-project")

_client: httpx.AsyncClient | None = None


def get_client() -> httpx.AsyncClient:
    global _client  # noqa: PLW0603 - the document's own form
    if _client is None:
        _client = httpx.AsyncClient(
            base_url=settings.cost_tracker_base_url,
            headers={"X-API-Key": settings.cost_tracker_api_key},
            timeout=10.0,
        )
    return _client


async def generate_content(contents: str) -> Any:
    """Stands in for the provider."""
    return SimpleNamespace(
        text=contents.upper(),
        usage_metadata=SimpleNamespace(prompt_token_count=len(contents) // 4, candidates_token_count=150),
    )


async def call_gemini_with_tracking(
    prompt: str, user_id: str, job_id: str, project_id: str | None = None
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The document's three steps; also returns what the first and the last were answered."""
    ct = get_client()
    preflight = await ct.post(
        "/preflight",
        json={
            "user_external_id": user_id,
            "project_external_id": project_id,
            "job_external_id": job_id,
            "source_app": settings.cost_tracker_source_app,
            "model": "gemini-2.5-pro-preview",
            "estimated_units": {"input_tokens": len(prompt) // 4, "output_tokens": 2048},
        },
    )
    preflight.raise_for_status()
    pf = preflight.json()
    if not pf["allow"]:
        raise RuntimeError(f"Budget exceeded: {pf.get('deny_reason')}")
    t0 = time.monotonic()
    response = await generate_content(prompt)
    elapsed_ms = int((time.monotonic() - t0) * 1000)
    recorded = await ct.post(
        "/usage/record",
        json={
            "request_id": pf["request_id"],
            "user_external_id": user_id,
            "project_external_id": project_id,
            "job_external_id": job_id,
            "source_app": settings.cost_tracker_source_app,
            "model": "gemini-2.5-pro-preview",
            "units": {
                "input_tokens": response.usage_metadata.prompt_token_count,
                "output_tokens": response.usage_metadata.candidates_token_count,
            },
            "latency_ms": elapsed_ms,
            "status": "success",
        },
    )
    recorded.raise_for_status()
    return response, pf, recorded.json()


async def safe_preflight(ct: httpx.AsyncClient, payload: dict[str, Any]) -> Any:
    try:
        r = await ct.post("/preflight", json=payload)
        r.raise_for_status()
        return r.json()
    except Exception as e:
        logger.warning("Cost tracker preflight failed (allowing call): %s", e)
        return {"allow": True, "request_id": None, "estimated_cost_usd": 0}
