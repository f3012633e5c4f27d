"""Several records in one request: an outcome for each, in few commits, none rejecting its neighbours."""

from __future__ import annotations

import json
from typing import Any

from harness import Daemon

PATH = "/v1/usage/records"


def one(**changes: Any) -> dict[str, Any]:
    return {"user_external_id": "u", "source_app": "bulk", "model": "gpt-4o", "units": {"input_tokens": 10}, **changes}


def test_every_record_of_an_array_has_its_own_outcome(daemon: Daemon) -> None:
    sent = [one(request_id="bulk-1"), {"model": "gpt-4o"}, one(units={"input_tokens": -1}), one(), 5]
    response = daemon.client.post(PATH, json=sent)
    answer = response.json()
    assert response.status_code == 200
    assert [result["success"] for result in answer["results"]] == [True, False, False, True, False]
    assert [result["index"] for result in answer["results"]] == [0, 1, 2, 3, 4]
    assert (answer["recorded"], answer["duplicates"], answer["refused"]) == (2, 0, 3)
    refused = answer["results"][2]
    assert (refused["status"], refused["error"]["details"]["field"]) == (400, "units.input_tokens")
    good = answer["results"][3]
    assert (good["cost_usd"], good["request_id"], good["duplicate"], good["warnings"]) == (0.000025, None, False, [])


def test_json_lines_are_records_too_and_a_broken_line_harms_only_itself(daemon: Daemon) -> None:
    lines = [json.dumps(one()), '{"model": ', "", json.dumps(one()), "\r"]
    response = daemon.client.post(PATH, content="\n".join(lines), headers={"Content-Type": "application/x-ndjson"})
    answer = response.json()
    assert [result["success"] for result in answer["results"]] == [True, False, True]


def test_many_records_share_commits(daemon: Daemon) -> None:
    before = daemon.query("SELECT count(*) FROM ledger_commit")[0][0]
    answer = daemon.client.post(PATH, json=[one() for _ in range(1000)]).json()
    assert answer["recorded"] == 1000
    assert daemon.query("SELECT count(*) FROM ledger_commit")[0][0] - before < 100


def test_a_repeated_request_counts_once(daemon: Daemon) -> None:
    sent = [one(request_id="bulk-a"), one(request_id="bulk-b"), one(request_id="bulk-a")]
    first = daemon.client.post(PATH, json=sent).json()
    again = daemon.client.post(PATH, json=sent).json()
    assert (first["recorded"], first["duplicates"]) == (2, 1)
    assert (again["recorded"], again["duplicates"]) == (0, 3)
    assert [r["event_id"] for r in again["results"]] == [r["event_id"] for r in first["results"]]


def test_an_idempotency_key_covers_every_record_without_an_id(daemon: Daemon) -> None:
    sent = [one(), one(), one(request_id="bulk-own")]
    headers = {"Idempotency-Key": "bulk-key"}
    first = daemon.client.post(PATH, json=sent, headers=headers).json()
    again = daemon.client.post(PATH, json=sent, headers=headers).json()
    assert [r["request_id"] for r in first["results"]] == ["bulk-key:0", "bulk-key:1", "bulk-own"]
    assert (first["recorded"], again["duplicates"]) == (3, 3)


def test_a_body_that_is_no_list_at_all_is_refused_whole(daemon: Daemon) -> None:
    for content in ("", "  \n ", "[1, 2"):
        response = daemon.client.post(PATH, content=content)
        assert (response.status_code, response.json()["code"]) == (400, "VALIDATION_ERROR"), content
