"""`costd prices`: what is set on the command line is what records cost, and what is wrong is said by its flag."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from costd.cli import main
from harness import Daemon, clean_env, costd
from litellm_file import PLAIN

Launch = Callable[..., Daemon]
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")


def run(daemon: Daemon, *words: str, code: int = 0) -> str:
    """What `costd prices …` prints."""
    done = costd("prices", *words, "--data-dir", str(daemon.data_dir))
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def ask(daemon: Daemon, *words: str, code: int = 0) -> Any:
    """The same as JSON."""
    return json.loads(run(daemon, *words, "--json", code=code))


def cost(daemon: Daemon, model: str, units: dict[str, Any], **fields: Any) -> Decimal | None:
    """What a record costs, over HTTP."""
    body = {"user_external_id": "u", "source_app": "shop", "model": model, "units": units, **fields}
    answer = daemon.client.post("/v1/usage/record", json=body)
    assert answer.status_code == 200, answer.text
    said = json.loads(answer.text, parse_float=Decimal)["cost_usd"]
    return None if said is None else Decimal(said)


def plain(text: str) -> str:
    """Output without what differs from run to run, and without the room at the ends of lines."""
    text = _MOMENT.sub("<moment>", _ID.sub("<id>", text))
    return "\n".join(re.sub(r"(?<=\S)  +", "  ", re.sub("─+", "──", line)).rstrip() for line in text.splitlines())


def test_every_flag_of_set_is_in_what_a_record_costs(daemon: Daemon) -> None:
    made = ask(
        daemon, "set", "Own-1", "--provider", "acme", "--input-per-mtok", "2", "--output-per-mtok", "8",
        "--cache-read-per-mtok", "0.5", "--cache-write-per-mtok", "3", "--unit", "images=0.04",
        "--unit", "chars=0.00003", "--tier", "input_tokens@1,000=4", "--tier", "images@1000=0.08",
        "--when", "processing=batch", "--multiplier", "0.5", "--from", "2026-11-01", "--until", "2199-01-01",
        "--org", "default", "--note", "contract 17",
    )["prices"][0]  # fmt: skip
    assert (made["new"], made["from_chosen"]) == (True, False)
    price = made["price"]
    assert (price["model"], price["provider"], price["org"], price["note"]) == (
        "own-1",
        "acme",
        "default",
        "contract 17",
    )
    assert (price["from"], price["until"]) == ("2026-11-01T00:00:00Z", "2199-01-01T00:00:00Z")
    units = {
        "input_tokens": 1000,
        "cache_read_tokens": 100,
        "cache_write_tokens": 200,
        "output_tokens": 10,
        "images": 1,
    }
    batch = {"provider": "acme", "price_context": {"processing": "batch"}}
    per_mtok = 700 * 2 + 100 * Decimal("0.5") + 200 * 3 + 10 * 8
    assert cost(daemon, "own-1", units | {"chars": 2}, **batch) == per_mtok / 10**6 + Decimal("0.04006")
    assert cost(daemon, "own-1", {"input_tokens": 1001, "images": 1}, **batch) == Decimal("0.084004")
    assert cost(daemon, "own-1", units, provider="acme") is None
    assert cost(daemon, "own-1", units, provider="other", price_context={"processing": "batch"}) is None


def test_dates_are_those_of_the_record(daemon: Daemon) -> None:
    """From a day's first moment, until just before another's."""
    run(daemon, "set", "dated", "--unit", "images=1", "--from", "always")
    run(daemon, "set", "dated", "--unit", "images=2", "--from", "2d", "--until", "1d")
    now = Decimal(str(time.time()))
    days = [
        cost(daemon, "dated", {"images": 1}, timestamp=float(now - 86400 * back)) for back in (3, Decimal("1.5"), 0)
    ]
    assert days == [1, 2, 1]


def test_without_a_date_a_price_holds_from_now_or_for_all_times(daemon: Daemon) -> None:
    """And the answer says which, and what the price was before."""
    first = run(daemon, "set", "newcomer", "--unit", "images=1")
    assert "for all times, as it had no price" in first
    second = run(daemon, "set", "newcomer", "--unit", "images=3")
    assert "from now on" in second
    assert re.search(r"images +\$1 +\$3 +each", second)
    assert cost(daemon, "newcomer", {"images": 1}, timestamp="2026-11-10T00:00:00Z") == 1
    assert cost(daemon, "newcomer", {"images": 1}) == 3
    assert "was set already" in run(daemon, "set", "newcomer", "--unit", "images=3")


def test_what_people_read(daemon: Daemon) -> None:
    """Snapshots of the tables."""
    set_ = run(daemon, "set", "gpt-4.1", "--input-per-mtok", "1", "--free", "--from", "2026-11-01", "--note", "gift")
    price = _ID.search(set_)
    assert price
    assert plain(set_) == SET
    assert plain(run(daemon, "show", "gpt-4.1", "--at", "2026-11-02")) == SHOW
    run(daemon, "remove", price[0])
    assert plain(run(daemon, "list", "gpt-4.1", "--removed")) == LISTED


SET = """\
set: gpt-4.1, for everybody, from <moment>
price <id>: input_tokens $1/M, the rest free
unit  before  after  for
──
input_tokens  $2  $1  per 1,000,000
cache_read_tokens  $0.5  $0  per 1,000,000
output_tokens  $8  $0  per 1,000,000
web_searches  $10  $0  per 1,000
storage_searches  $2.5  $0  per 1,000"""
SHOW = """\
model  gpt-4.1
provider  openai
at  <moment>
this price  since <moment>
below prices set  list 0.2.3
unit  price  for  each  from
──
input_tokens  $1  per 1,000,000  $0.000001  price <id>
cache_read_tokens  $0  per 1,000,000  $0  list 0.2.3, scaled by <id>
output_tokens  $0  per 1,000,000  $0  list 0.2.3, scaled by <id>
web_searches  $0  per 1,000  $0  list 0.2.3, scaled by <id>
storage_searches  $0  per 1,000  $0  list 0.2.3, scaled by <id>
prices that match, the strongest first
price  for  model  provider  context  when  decides
──
<id>  everybody  gpt-4.1  any  any  from <moment>  yes"""
LISTED = """\
price  model  provider  for  context  when  rates  set by  note  state
──
<id>  gpt-4.1  any  everybody  any  from <moment>  input_tokens $1/M, the rest free  admin  gift  \
removed <moment> by admin"""


def test_show_says_the_rates_for_programs(daemon: Daemon) -> None:
    run(daemon, "set", "gpt-5-mini", "--provider", "azure", "--multiplier", "0.8", "--org", "default")
    found = ask(daemon, "show", "gpt-5-mini", "--provider", "azure", "--org", "default", "--when", "region=east")
    assert (found["asked"]["provider"], found["provider"], found["base"]["kind"]) == ("azure", "azure", "list")
    rates = {rate["unit"]: rate for rate in found["rates"]}
    price = found["prices"][0]["id"]
    assert rates["input_tokens"]["usd_per_mtok"] == "0.2"
    assert (rates["input_tokens"]["source"], rates["input_tokens"]["scaled_by"]) == ("list", [price])
    rows = list(csv.DictReader(io.StringIO(run(daemon, "show", "gpt-5-mini", "--provider", "azure", "--csv"))))
    assert {row["unit"]: row["usd_each"] for row in rows}["input_tokens"] == "0.0000002"
    assert "no model" in run(daemon, "show", "unheard-of", code=1)
    assert "--at" in run(daemon, "show", "gpt-4o", "--at", "soon", code=2)
    assert "--when" in run(daemon, "show", "gpt-4o", "--when", "x", code=2)


def test_prices_are_listed_and_removed(daemon: Daemon) -> None:
    for name in ("listed-1", "listed-*"):
        run(daemon, "set", name, "--free")
    of_one = ask(daemon, "list", "listed-1")["prices"]
    assert [price["model"] for price in of_one] == ["listed-1", "listed-*"]  # in the order in which they were set
    assert [price["model"] for price in ask(daemon, "list", "listed-2")["prices"]] == ["listed-*"]
    gone = ask(daemon, "remove", of_one[0]["id"][:-2])
    assert gone["id"] == of_one[0]["id"]
    assert gone["removed_by_name"] == "admin"
    assert "removed before" in run(daemon, "remove", gone["id"], code=1)
    assert "there is no price" in run(daemon, "remove", "nonsense", code=1)
    history = run(daemon, "list", "listed-1", "--removed", "--csv")
    rows = list(csv.DictReader(io.StringIO(history)))
    assert [(row["model"], row["removed"] != "") for row in rows] == [("listed-1", True), ("listed-*", False)]


TOML = """
[[prices]]
model = "filed-1"
from = 2026-11-01
usd_per_mtok = { input_tokens = { base = 1.25, above = { 200000 = 2.5 } }, output_tokens = 10 }
note = "a contract"

[[prices]]
model = "filed-2"
free = true
usd_each = { images = "0.04" }

[[prices]]
model = "filed-*"
provider = "openai"
when = { processing = "batch" }
multiplier = 0.5
from = "always"
until = 2030-01-01T12:00:00Z
"""


def test_a_file_sets_all_its_prices_and_what_is_listed_is_such_a_file(
    daemon: Daemon, launch: Launch, tmp_path: Path
) -> None:
    """Set again, it changes nothing; set elsewhere, it makes the same."""
    (tmp_path / "prices.toml").write_text(TOML)
    assert "set 3 prices; 0 were set already" in run(daemon, "set", "--file", str(tmp_path / "prices.toml"))
    assert cost(daemon, "filed-1", {"input_tokens": 200_001}) == Decimal("0.5000025")
    assert cost(daemon, "filed-2", {"input_tokens": 5, "images": 2}) == Decimal("0.08")
    assert "set 0 prices; 3 were set already" in run(daemon, "set", "--file", str(tmp_path / "prices.toml"))

    (tmp_path / "listed.json").write_text(run(daemon, "list", "--json"))
    other = launch()
    run(other, "set", "--file", str(tmp_path / "listed.json"))
    here, there = (saying(ask(each, "list")) for each in (daemon, other))
    assert here == there
    assert [done["new"] for done in ask(other, "set", "--file", str(tmp_path / "listed.json"))["prices"]] == [
        False for _ in there
    ]


def saying(listed: Any) -> list[dict[str, Any]]:
    """What prices say, without who set them when."""
    history = {"id", "created", "created_by", "created_by_name"}
    return [{name: value for name, value in price.items() if name not in history} for price in listed["prices"]]


FINE = '[[prices]]\nmodel = "ok"\nfree = true\n'
BAD_FILES = [
    (f'{FINE}[[prices]]\nmodel = "x"\nusd_each = {{ images = -1 }}', "entry 2 (x): usd_each.images: must not"),
    ('[[prices]]\nmodel = "x"\nusd_per_mtok = { Input = 1 }', "entry 1 (x): Input: is not a unit"),
    ('[[prices]]\nmodle = "x"', "entry 1: modle: is not known"),
    ('[[prices]]\nmodel = "x"', "entry 1 (x): are missing"),
    ('[[prices]]\nmodel = "x"\nfree = true\nfrom = "2026-02-30"', "entry 1 (x): from = '2026-02-30'"),
    ('[[prices]]\nmodel = "x"\nfree = true\nfrom = 2026-02-02\nuntil = 2026-02-02', "(x): until: must be after"),
    ('[[prices]]\nmodel = "x"\nfree = true\nfrom = 12:00:00', "entry 1 (x): from: must be a date"),
    ('[[prices]]\nmodel = "x"\nfree = true\nremoved = "2026-01-01"', "entry 1 (x): removed: this price was removed"),
    (f'{FINE}[[prices]]\nmodel = "x"\nfree = true\norg = "no"', "organization"),
    ('[[prices]]\nmodel = "x"\nusd_per_mtok = { cache_read_tokens = 1 }', "entry 1 (x): rates: do not fit together"),
    ("[[prices]]\nmodel = ", "is not TOML"),
    ("[[price]]\nx = 1", "must hold a list of prices"),
    ('x = 1\n[[prices]]\nmodel = "x"', "x: is not known"),
    ('{"prices": [{"model": "x", "multiplier": NaN}]}', "is not JSON"),
    ('{"prices": [{"model": "x", "model": "y"}]}', "twice"),
    ('{"prices": [5]}', "entry 1: must be a table"),
    ('{"prices": []}', "must hold a list of prices"),
    ("\xff\xfe", "is not UTF-8"),
]  # fmt: skip


def in_process(capsys: pytest.CaptureFixture[str], daemon: Daemon, *words: str) -> str:
    """What a command that is refused says; the process is this one, as only the words differ."""
    assert main._run(["prices", *words, "--data-dir", str(daemon.data_dir)]) == main.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("costd: ")
    return captured.err


@pytest.mark.parametrize(("text", "said"), BAD_FILES)
def test_a_broken_file_is_refused_whole_by_entry_and_field(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    path = tmp_path / "prices"
    path.write_bytes(text.encode("latin-1"))
    assert said in in_process(capsys, daemon, "set", "--file", str(path))
    assert daemon.query("SELECT count(*) FROM price_rule WHERE model IN ('ok', 'x')") == [(0,)]


BAD_WORDS = [
    ("set gpt-4o --input-per-mtok -1", "--input-per-mtok: must not be negative"),
    ("set gpt-4o --output-per-mtok much", "--output-per-mtok: must be a number"),
    ("set gpt-4o --cache-read-per-mtok inf", "--cache-read-per-mtok: must be a number"),
    ("set gpt-4o --cache-write-per-mtok 1e20", "--cache-write-per-mtok: must be at most"),
    ("set gpt-4o --unit Images=1", "--unit Images: is not a unit"),
    ("set gpt-4o --unit images", '--unit: "images" must be NAME=USD'),
    ("set gpt-4o --unit images=1 --unit images=2", "--unit: images has its price already"),
    ("set gpt-4o --unit input_tokens=1 --input-per-mtok 2", "--unit: input_tokens has its price already"),
    ("set gpt-4o --unit images=1 --tier images=1", '--tier: "images=1" must be UNIT@TOKENS=USD'),
    ("set gpt-4o --unit images=1 --tier images@0=1", "--tier images@0: must begin above"),
    ("set gpt-4o --unit images=1 --tier images@5=1 --tier images@5=2", "--unit images: has two tiers"),
    ("set gpt-4o --tier images@5=1", "--tier: images has no price"),
    ("set gpt-4o", "say what it costs"),
    ("set gpt-4o --multiplier -0.1", "--multiplier: must not be negative"),
    ("set gpt-4o --free --multiplier 0.5", "--free: says what --multiplier says"),
    ("set gpt-4o --free --when batch", '--when: "batch" must be KEY=VALUE'),
    ("set gpt-4o --free --when a=1 --when a=2", "--when: a can have one value only"),
    ("set gpt-4o --free --from 2026-13-01", "--from = '2026-13-01'"),
    ("set gpt-4o --free --from 1999-01-01", "--from: must be between the years"),
    ("set gpt-4o --free --until 2026-02-30", "--until = '2026-02-30'"),
    ("set gpt-4o --free --from 2026-11-02 --until 2026-11-01", "--until: must be after --from"),
    ("set gpt-4o --free --until 2026-01-01", "--until: must be after from"),
    ("set gpt-4o --free --org nobody", "--org: there is no organization"),
    ("set a*b --free", "MODEL: may have"),
    ("set new --cache-read-per-mtok 1", "the rates do not fit together"),
    ("set", "say which MODEL"),
    ("set gpt-4o --file x", "--file has everything in it"),
    ("set --file x --free", "--file has everything in it"),
    ("set --file /nowhere", "--file = '/nowhere'"),
    ("import", "say which FILE"),
    ("import x --remove", "--remove takes no FILE"),
    ("import /nowhere", "FILE = '/nowhere'"),
    ("update x --reset", "--reset takes no FILE"),
    ("update /nowhere", "FILE = '/nowhere'"),
    ("unpriced --since soon", "--since = 'soon'"),
    ("unpriced --since 2026-11-02 --until 2026-11-01", "--until = '2026-11-01'"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), BAD_WORDS)
def test_what_is_wrong_is_said_by_its_flag(
    daemon: Daemon, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    before = daemon.query("SELECT count(*) FROM price_rule")
    assert said in in_process(capsys, daemon, *shlex.split(words))
    assert daemon.query("SELECT count(*) FROM price_rule") == before


def litellm_file(path: Path, **changes: Any) -> str:
    entries = {
        "acme-chat": PLAIN | {"litellm_provider": "acme", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6},
        "gpt-4o": PLAIN | {"litellm_provider": "openai", "input_cost_per_token": 7e-6, "output_cost_per_token": 1e-5},
        "odd": PLAIN | {"litellm_provider": "acme", "input_cost_per_smell": 1},
    }
    path.write_text(json.dumps(entries | changes))
    return str(path)


def test_a_price_file_is_imported_after_a_report_and_never_over_a_price(launch: Launch, tmp_path: Path) -> None:
    daemon = launch()
    path = litellm_file(tmp_path / "prices.json")
    run(daemon, "set", "gpt-4o", "--input-per-mtok", "3")
    report = ask(daemon, "import", path, "--dry-run")
    assert (report["applied"], report["in_force"], report["imported"]) == (False, False, 3)
    assert report["models"] == {"new": 3, "changed": 0, "same": 0, "gone": 0, "unlisted": 2, "divergent": 1}
    assert report["unknown_fields"] == {"input_cost_per_smell": 1}
    assert [each["model"] for each in report["behind_prices"]] == ["gpt-4o"]
    assert cost(daemon, "acme-chat", {"input_tokens": 1}) is None

    said = run(daemon, "import", path)  # nobody to ask
    assert "3 new" in said
    assert "behind prices that were set, which stay in front: 1: gpt-4o" in said
    assert "is in force: version" in said
    assert cost(daemon, "acme-chat", {"input_tokens": 1_000_000}) == 1
    assert cost(daemon, "gpt-4o", {"input_tokens": 1_000_000}) == 3
    shown = ask(daemon, "show", "acme-chat")
    assert (shown["base"]["kind"], shown["base"]["name"]) == ("file", "prices.json")
    assert "in force already" in run(daemon, "import", path)

    litellm_file(tmp_path / "prices.json", odd=None, **{"acme-chat": PLAIN | {"litellm_provider": "acme"}})
    assert re.search(r"acme +acme-chat +changed +input_tokens", run(daemon, "import", path, "--dry-run", "--verbose"))
    again = ask(daemon, "import", path, "--yes")
    assert {word: again["models"][word] for word in ("new", "changed", "same", "gone")} == {
        "new": 0, "changed": 1, "same": 1, "gone": 1,
    }  # fmt: skip
    assert [each["reason"] for each in again["refused"]]
    run(daemon, "import", "--remove")
    assert cost(daemon, "acme-chat", {"input_tokens": 1}) is None
    assert "no price file is imported" in run(daemon, "import", "--remove", code=1)
    (tmp_path / "broken.json").write_text('{"a": {\n"b": }}')
    assert "line 2" in run(daemon, "import", str(tmp_path / "broken.json"), code=2)


def test_a_person_is_asked_before_a_table_comes_into_force(daemon: Daemon, tmp_path: Path) -> None:
    """And who says no has changed nothing."""
    path = litellm_file(tmp_path / "prices.json")
    ours, theirs = os.openpty()
    os.write(ours, b"n\n")
    command = [sys.executable, "-m", "costd", "prices", "import", path, "--data-dir", str(daemon.data_dir)]
    done = subprocess.run(
        command, stdin=theirs, capture_output=True, text=True, env=clean_env(), timeout=60, check=False
    )
    for end in (ours, theirs):
        os.close(end)
    assert done.returncode == main.INTERRUPTED
    assert "Put this file in force?" in done.stderr
    assert daemon.query("SELECT count(*) FROM price_import") == [(0,)]


def test_the_list_is_taken_anew(launch: Launch, tmp_path: Path) -> None:
    """From the installed library it is the one in force; from a file it is another, until it is reset."""
    daemon = launch()
    assert "this list is in force already" in run(daemon, "update")
    assert "the list in force is the installed one" in run(daemon, "update", "--reset", code=1)
    (tmp_path / "broken.json").write_text("[")
    assert "is not JSON" in run(daemon, "update", str(tmp_path / "broken.json"), code=2)
    rates = {"input_mtok": 5, "output_mtok": 6}
    model = {"id": "acme-chat", "match": {"starts_with": "acme-"}, "prices": rates}
    provider = {"id": "acme", "name": "Acme", "api_pattern": "https://acme", "model_match": {"starts_with": "acme-"}}
    (tmp_path / "data.json").write_text(json.dumps([provider | {"models": [model]}]))
    report = ask(daemon, "update", str(tmp_path / "data.json"), "--yes")
    assert (report["applied"], report["models"]["new"]) == (True, 1)
    assert report["models"]["gone"] > 2000
    assert cost(daemon, "acme-1", {"input_tokens": 1_000_000}) == 5
    assert cost(daemon, "gpt-4o", {"input_tokens": 1}) is None
    assert "the installed list is in force" in run(daemon, "update", "--reset")
    assert cost(daemon, "gpt-4o", {"input_tokens": 1_000_000}) == Decimal("2.5")


def test_what_has_no_price_is_told_with_the_way_to_give_it_one(launch: Launch) -> None:
    """Set what it says, reprice what it says then, and nothing is left."""
    daemon = launch()
    cost(daemon, "mystery", {"input_tokens": 1000, "output_tokens": 10}, provider="acme")
    cost(daemon, "mystery", {"input_tokens": 500, "glyphs": 2}, provider="acme", source_app="mill")
    cost(daemon, "gpt-4o", {"input_tokens": 5, "gpu_seconds": 2})
    cost(daemon, "gpt-4o", {"input_tokens": 5})
    found = ask(daemon, "unpriced", "--since", "1d")["models"]
    assert [(row["provider"], row["model"], row["requests"], row["unpriced"], row["unrated"]) for row in found] == [
        ("acme", "mystery", 2, 2, 0), ("openai", "gpt-4o", 2, 0, 1),
    ]  # fmt: skip
    mystery, known = found
    assert mystery["source_apps"] == ["mill", "shop"]
    assert (mystery["input_tokens"], mystery["output_tokens"]) == (1500, 10)
    assert (mystery["units"], known["units"]) == (["input_tokens", "output_tokens", "glyphs"], ["gpu_seconds"])
    assert known["command"] == ("costd prices set gpt-4o --provider openai --unit gpu_seconds=USD --from always")
    table = run(daemon, "unpriced")
    for row in found:
        assert row["command"] in table
        command = shlex.split(row["command"].replace("USD", "0.5"))
        assert command[:2] == ["costd", "prices"]
        run(daemon, *command[2:])
    priced = ask(daemon, "unpriced")["models"]
    assert all(row["priced_now"] for row in priced)
    for row in priced:
        run(daemon, *shlex.split(row["command"])[2:], "--yes")
    assert ask(daemon, "unpriced", "--since", "all", "--until", "1d")["models"] == []
    assert ask(daemon, "unpriced", "--since", "all")["models"] == []
    assert "every record in this time has its price" in run(daemon, "unpriced")
    rows = list(csv.reader(io.StringIO(run(daemon, "unpriced", "--csv"))))
    assert rows[0][:2] == ["provider", "model"]
    assert costd("check", "--data-dir", str(daemon.data_dir)).returncode == 0


def test_prices_can_be_set_and_shown_without_a_daemon(tmp_path: Path, launch: Launch) -> None:
    """Before the first start and after the last; by address and key too."""
    folder = ["--data-dir", str(tmp_path / "data")]
    assert costd("prices", "set", "early", "--unit", "images=2", *folder).returncode == 0
    daemon = launch()
    assert cost(daemon, "early", {"images": 1}) == 2
    reach = ["--address", daemon.grpc, "--key", daemon.key("reader", role="read")]
    assert json.loads(costd("prices", "show", "early", *reach, "--json").stdout)["rates"][0]["usd"] == "2"
    refused = costd("prices", "set", "early", "--unit", "images=1", *reach)
    assert refused.returncode == main.UNREACHABLE
    assert 'role "admin"' in refused.stderr
    assert daemon.stop() == 0
    assert costd("prices", "set", "early", "--unit", "images=5", *folder).returncode == 0
    assert [price["usd_each"]["images"] for price in json.loads(
        costd("prices", "list", *folder, "--json").stdout)["prices"]] == ["2", "5"]  # fmt: skip


DOCS = Path(__file__).parents[2] / "docs" / "prices.md"


def test_the_documentation_is_right(launch: Launch, tmp_path: Path) -> None:
    """Its table of examples, one command after another, and its file."""
    daemon = launch()
    text = DOCS.read_text()
    rows = re.findall(
        r"^\| (?:and )?`(set .*?)` \| .*? \| 1,000 × \$([\d.]+)/M \+ 100 × \$([\d.]+)/M", text, re.MULTILINE
    )
    assert len(rows) == 4
    for command, usd_in, usd_out in rows:
        run(daemon, *shlex.split(command))
        expected = (1000 * Decimal(usd_in) + 100 * Decimal(usd_out)) / 10**6
        assert cost(daemon, "gpt-4o", {"input_tokens": 1000, "output_tokens": 100}) == expected, command
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "prices.toml").write_text(example)
    run(daemon, "set", "--file", str(tmp_path / "prices.toml"))
    discounted = Decimal("0.0068") * Decimal("0.9")  # the organization's share of everything is still in force
    assert cost(daemon, "our-reranker", {"searches": 3, "gpu_seconds": 2}) == discounted
