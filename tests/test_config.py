"""Settings: where they come from, what they refuse and how a refusal names itself."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from costd import config as config_module
from costd import places
from costd.addresses import Address
from costd.config import SETTINGS, Config, Setting, load
from costd.domain.errors import ConfigError
from costd.settings import Whole

HOME = {"HOME": "/home/someone"}


def loaded(flags: dict[str, object] | None = None, environ: dict[str, str] | None = None) -> Config:
    return load(flags or {}, HOME | (environ or {})).config


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults of an account that is not root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1234)


def write(folder: Path, text: str) -> str:
    path = folder / "costd.toml"
    path.write_text(text)
    return str(path)


# --- where a value comes from ------------------------------------------------------------------------------------


def test_without_anything_the_defaults_hold() -> None:
    made = loaded()
    assert made.grpc.listen == Address("127.0.0.1", 7430)
    assert made.http.listen == Address("127.0.0.1", 7431)
    assert made.auth is True
    assert made.insecure is False
    assert (made.queue.max_records, made.queue.max_bytes) == (50_000, 64 * 1024 * 1024)
    assert (made.retention.events_days, made.retention.rollups_days) == (45, 400)
    assert made.shutdown.grace_s == 10
    assert made.origins == {}


def test_a_flag_wins_over_a_variable_which_wins_over_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, 'log.level = "debug"\n[queue]\nmax_records = 1\nmax_bytes = "2 KiB"\n')
    made = loaded(
        {"config": file, "queue.max_records": "3"}, {"COSTD_QUEUE_MAX_RECORDS": "2", "COSTD_QUEUE_MAX_BYTES": "4096"}
    )
    assert (made.queue.max_records, made.queue.max_bytes, made.log.level) == (3, 4096, "debug")
    assert made.written("queue.max_records") == "--queue-max-records"
    assert made.written("queue.max_bytes") == "COSTD_QUEUE_MAX_BYTES"
    assert made.written("log.level") == f"log.level in {file}"


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    assert loaded(environ={"COSTD_CONFIG": write(tmp_path, 'auth = "off"')}).auth is False


def test_an_empty_variable_counts_as_none() -> None:
    assert loaded(environ={"COSTD_LOG_LEVEL": ""}).log.level == "info"


def test_every_setting_can_be_set_by_flag_by_variable_and_by_file(tmp_path: Path) -> None:
    alone = {"hub.key_file": "/kf", "hub.plaintext": "true"}  # exclude others
    texts = alone | {
        "config": write(tmp_path, ""), "data_dir": "/d", "grpc.listen": "[::1]:1", "grpc.socket": "/s",
        "http.listen": "localhost:2", "http.allowed_hosts": "a.example,b", "tls.cert": "/c", "tls.key": "/k",
        "insecure": "true", "auth": "off", "queue.max_records": "7", "queue.max_bytes": "1 MiB",
        "limits.past_days": "3", "limits.future_minutes": "4", "limits.http_body_bytes": "2048",
        "budgets.reservation_minutes": "2.5", "budgets.max_reservations": "6", "budgets.hub_wait_ms": "70",
        "budgets.use_minutes": "3",
        "alerts.webhook_url": "https://a.example/in", "alerts.webhook_secret": "0123456789abcdef",
        "alerts.webhook_secret_file": "/ws", "alerts.slack_url": "https://b.example/in", "alerts.slack_url_file": "/su",
        "alerts.smtp_host": "mail.example", "alerts.smtp_port": "465", "alerts.smtp_tls": "tls",
        "alerts.smtp_user": "costd", "alerts.smtp_password": "pw", "alerts.smtp_password_file": "/sp",
        "alerts.mail_from": "costd@a.example", "alerts.mail_to": "ops@a.example,cfo@a.example", "alerts.ca": "/aca",
        "alerts.timeout_s": "2.5",
        "proxy.upstreams": "vllm=http://127.0.0.1:8000/v1", "proxy.body_bytes": "1 MiB", "proxy.on_failure": "closed",
        "proxy.unlimited_output_tokens": "8", "proxy.drain_s": "1.5", "proxy.requests_per_minute": "5",
        "proxy.counts_per_minute": "6", "proxy.waiting_records": "9",
        "retention.events_days": "50", "retention.rollups_days": "60", "shutdown.grace_s": "1.5",
        "tls.client_ca": "/cc", "hub.address": "hub:3", "hub.key": "ct_live_k", "hub.name": "web-1", "hub.ca": "/ca",
        "hub.cert": "/hc", "hub.cert_key": "/hk", "sync.max_age": "90m", "sync.stale_keys": "refuse",
        "storage.max_bytes": "1 GiB", "disk.reserve_bytes": "0", "log.level": "error", "log.format": "json",
        "metrics.max_series": "9", "metrics.labels": "team,model", "ready_file": "/r",
    }  # fmt: skip
    assert set(texts) == {setting.name for setting in SETTINGS}
    by_flag = load(dict(texts), HOME, to_run=False).config
    by_variable = load({}, HOME | {s.variable: texts[s.name] for s in SETTINGS}, to_run=False).config
    numbers = {"retention", "limits", "budgets", "alerts", "proxy", "shutdown", "queue", "metrics", "disk"}
    lines = [
        f"{name} = {text if name.split('.')[0] in numbers and text.replace('.', '').isdigit() else repr(text)}"
        for name, text in texts.items()
        if name
        not in {
            "config",
            "insecure",
            "hub.plaintext",
            "http.allowed_hosts",
            "metrics.labels",
            "alerts.mail_to",
            "proxy.upstreams",
        }
    ]
    lists = ['http.allowed_hosts = ["a.example", "b"]', 'metrics.labels = ["team", "model"]']
    lists.append('alerts.mail_to = ["ops@a.example", "cfo@a.example"]')
    lists.append('proxy.upstreams = {vllm = {base_url = "http://127.0.0.1:8000/v1"}}')
    toml = "\n".join([*lines, "insecure = true", "hub.plaintext = true", *lists])
    by_file = load({"config": write(tmp_path, toml)}, HOME, to_run=False).config
    for setting in SETTINGS:
        values = [made.value(setting.name) for made in (by_flag, by_variable, by_file)]
        assert values[0] == values[1] == values[2], setting.name
        assert setting.name == "config" or values[0] != loaded().value(setting.name)


def test_the_table_and_the_struct_hold_the_same_settings() -> None:
    made = loaded()
    names = set()
    for entry in dataclasses.fields(made):
        value = getattr(made, entry.name)
        if dataclasses.is_dataclass(value):
            names |= {f"{entry.name}.{inner.name}" for inner in dataclasses.fields(value)}
        elif entry.name not in {"origins", "mode"}:
            names.add(entry.name)
    assert names == {setting.name for setting in SETTINGS}


def test_a_relative_path_in_a_file_is_relative_to_the_file(tmp_path: Path) -> None:
    made = loaded({"config": write(tmp_path, 'data_dir = "data"')})
    assert made.data_dir == tmp_path / "data"
    assert loaded({"data_dir": "data"}).data_dir == Path.cwd() / "data"


# --- what is refused, and how it is said -------------------------------------------------------------------------

BAD = [
    ("data_dir", " "), ("grpc.listen", "7430"), ("grpc.listen", ":7430"), ("grpc.listen", "localhost:65536"),
    ("grpc.listen", "::1:7430"), ("grpc.listen", "localhost:-1"), ("grpc.listen", "a b:1"), ("grpc.listen", "*:1"),
    ("grpc.socket", "/" + "x" * 120), ("http.listen", "off"), ("http.listen", "localhost:http"),
    ("http.allowed_hosts", "https://a.example"), ("http.allowed_hosts", "*"), ("http.allowed_hosts", "a:80"),
    ("tls.cert", " "), ("tls.key", " "), ("insecure", "perhaps"), ("auth", "none"), ("queue.max_records", "0"),
    ("queue.max_records", "many"), ("queue.max_records", "1.5"), ("queue.max_bytes", "64 MB"),
    ("queue.max_bytes", "-1"), ("queue.max_bytes", "1"), ("limits.past_days", "-1"), ("limits.past_days", "45"),
    ("budgets.reservation_minutes", "0"), ("budgets.max_reservations", "0"), ("budgets.hub_wait_ms", "-1"),
    ("budgets.use_minutes", "soon"),
    ("proxy.upstreams", "vllm"), ("proxy.upstreams", "vLLM=http://a/v1"), ("proxy.upstreams", "a=ftp://a/v1"),
    ("proxy.upstreams", "a=http://a/v1?x=y"), ("proxy.body_bytes", "0"), ("proxy.on_failure", "maybe"),
    ("proxy.unlimited_output_tokens", "0"), ("proxy.drain_s", "-1"), ("proxy.requests_per_minute", "0"),
    ("proxy.waiting_records", "0"),
    ("proxy.counts_per_minute", "x"),
    ("alerts.webhook_url", "ftp://a.example"), ("alerts.webhook_url", "https://a.example/#x"),
    ("alerts.webhook_url", "https:///x"), ("alerts.webhook_url", "https://a.example:port/"),
    ("alerts.webhook_url", "https://a.example/in"), ("alerts.webhook_secret", "0123456789abcde"),
    ("alerts.webhook_secret", "0123456789abcdef"), ("alerts.webhook_secret_file", "/f"),
    ("alerts.slack_url", "a.example"), ("alerts.slack_url_file", " "), ("alerts.smtp_host", "mail.example"),
    ("alerts.smtp_port", "0"), ("alerts.smtp_tls", "ssl"), ("alerts.smtp_user", "costd"),
    ("alerts.smtp_password", "pw"), ("alerts.smtp_password_file", "/f"), ("alerts.mail_from", "costd"),
    ("alerts.mail_from", "a@a.example,b@b.example"), ("alerts.mail_to", "Ops <ops@a.example>"),
    ("alerts.mail_to", "ops@a.example"), ("alerts.ca", " "), ("alerts.timeout_s", "0"), ("alerts.timeout_s", "x"),
    ("limits.future_minutes", "x"), ("limits.http_body_bytes", "1 GiB"), ("retention.events_days", "44"),
    ("retention.rollups_days", "44"), ("shutdown.grace_s", "nan"), ("shutdown.grace_s", "inf"),
    ("shutdown.grace_s", "-1"), ("disk.reserve_bytes", "lots"), ("log.level", "loud"), ("log.format", "xml"),
    ("metrics.max_series", "0"), ("metrics.labels", "org_id"), ("metrics.labels", "team,team"),
    ("tls.client_ca", " "), ("hub.address", "hub"), ("hub.address", "hub:0"), ("hub.address", "https://hub:1"),
    ("hub.address", "off"), ("hub.key", "two words"), ("hub.key", "k\u00e9"), ("hub.key_file", " "),
    ("hub.name", "a\nb"), ("hub.name", "x" * 257), ("hub.ca", " "), ("hub.cert", " "), ("hub.cert_key", " "),
    ("hub.plaintext", "perhaps"),
    ("sync.max_age", "0"), ("sync.max_age", "a day"), ("sync.max_age", "1.5h"), ("sync.max_age", "3651d"),
    ("sync.stale_keys", "maybe"), ("storage.max_bytes", "-1"), ("storage.max_bytes", "1 TB"),
    ("ready_file", " "), ("config", "/nowhere/costd.toml"),
]  # fmt: skip


def test_there_is_a_bad_value_for_every_setting() -> None:
    assert {name for name, _ in BAD} == {setting.name for setting in SETTINGS}


@pytest.mark.parametrize(("name", "text"), BAD)
def test_a_bad_value_names_its_flag_itself_and_what_is_allowed(name: str, text: str) -> None:
    setting = next(entry for entry in SETTINGS if entry.name == name)
    with pytest.raises(ConfigError) as caught:
        load({name: text}, HOME)
    assert caught.value.setting == setting.flag
    shown = "********" if setting.secret else text
    if name == "proxy.upstreams":
        shown = text.replace("=", ".base_url=", 1) if text.startswith("a=") else text
    assert repr(shown) in caught.value.message or shown in caught.value.message
    assert "must" in caught.value.message or "may" in caught.value.message


def test_a_wrong_upstream_is_named_with_what_is_wrong_in_it(tmp_path: Path) -> None:
    """Of what is written there, a password is not shown."""
    file = tmp_path / "costd.toml"
    for member, allowed in (
        ('conect_s = "soon"', "there is no such member; it may be answer_s, base_url, ca, connect_s,"),
        ("answer_s = -1", "must be a number of seconds from 0 to 86400"),
        ('dialect = "latin"', 'must be one of "openai", "anthropic"'),
        ("include_usage = 1", "must be true or false"),
        ('base_url = "http://costd:hunter2@own.example/v1"', "no user in it"),
        ("provider = 1", "where wanted dialect"),
    ):
        file.write_text(f"[proxy.upstreams.openai]\nanswer_s = 5\n[proxy.upstreams.own]\n{member}\n")
        if "base_url" not in member:
            file.write_text(file.read_text() + 'base_url = "http://own.example/v1"\n')
        with pytest.raises(ConfigError) as caught:
            load({"config": str(file)}, HOME)
        assert caught.value.message.startswith(f"proxy.upstreams in {file} = 'own")
        assert allowed in caught.value.message
        assert "hunter2" not in caught.value.message
    with pytest.raises(ConfigError) as caught:
        load({"proxy.upstreams": "own=http://costd:hunter2@own.example/v1"}, HOME)
    assert "own.base_url=http://********@own.example/v1" in caught.value.message


@pytest.mark.parametrize(("name", "text"), [pair for pair in BAD if pair[1].strip()])
def test_a_bad_value_in_the_environment_names_its_variable(name: str, text: str) -> None:
    variable = next(entry for entry in SETTINGS if entry.name == name).variable
    with pytest.raises(ConfigError) as caught:
        load({}, HOME | {variable: text})
    assert caught.value.setting == variable


@pytest.mark.parametrize(
    ("toml", "key"),
    [
        ("queue.max_records = '7'", "queue.max_records"),
        ("queue.max_records = true", "queue.max_records"),
        ("shutdown.grace_s = true", "shutdown.grace_s"),
        ("insecure = 1", "insecure"),
        ("auth = true", "auth"),
        ("http.allowed_hosts = 'a'", "http.allowed_hosts"),
        ("http.allowed_hosts = [1]", "http.allowed_hosts"),
        ("data_dir = 1", "data_dir"),
        ('data_dir = "a\\u0000b"', "data_dir"),
        ("grpc = 1", "grpc"),
        ("grpc.listen = 7430", "grpc.listen"),
        ("grpc.listn = '127.0.0.1:1'", "grpc.listn"),
        ("config = 'other.toml'", "config"),
        ("colour = 'red'", "colour"),
    ],
)
def test_a_bad_entry_in_the_file_names_its_key_and_the_file(tmp_path: Path, toml: str, key: str) -> None:
    file = write(tmp_path, toml)
    with pytest.raises(ConfigError) as caught:
        loaded({"config": file})
    assert caught.value.setting == f"{key} in {file}"


def test_an_unknown_key_is_refused_with_the_nearest_name_and_without_its_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean grpc\.listen\?") as caught:
        loaded({"config": write(tmp_path, "grpc.listn = 'ct_live_secret'")})
    assert "ct_live" not in caught.value.message


@pytest.mark.parametrize("content", [b"a = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"--config = .*bad\.toml.*must be a TOML file"):
        loaded({"config": str(tmp_path / "bad.toml")})


def test_an_unknown_variable_is_warned_about_and_never_refused() -> None:
    kubernetes = {"COSTD_SERVICE_HOST": "10.0.0.1", "COSTD_PORT": "tcp://10.0.0.1:7430", "COSTD_GRPC_LISTN": "x"}
    own = {"COSTD_ADDRESS": "a:1", "COSTD_KEY": "k", "COSTD_CA": "/ca"}
    warnings = load({}, HOME | kubernetes | own).warnings
    assert len(warnings) == 3
    assert "COSTD_GRPC_LISTN is not a setting and is ignored; did you mean COSTD_GRPC_LISTEN?" in warnings


# --- rules between settings --------------------------------------------------------------------------------------

TLS = {"tls.cert": "/c.pem", "tls.key": "/k.pem"}
EXPOSED = ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[2001:db8::1]:1", "costd.internal:1", "0.0.0.0:0"]


@pytest.mark.parametrize("address", EXPOSED)
@pytest.mark.parametrize("name", ["grpc.listen", "http.listen"])
def test_listening_beyond_loopback_needs_tls_or_insecure(name: str, address: str) -> None:
    with pytest.raises(ConfigError, match="needs TLS") as caught:
        loaded({name: address})
    assert caught.value.setting == "--" + name.replace(".", "-")
    assert loaded({name: address, **TLS}).tls.cert == Path("/c.pem")
    assert loaded({name: address, "insecure": True}).insecure


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.8.9.10:1", "[::1]:1", "localhost:1", "LOCALHOST:1"])
def test_loopback_needs_no_tls(address: str) -> None:
    made = loaded({"grpc.listen": address, "auth": "off"})
    assert made.grpc.listen is not None
    assert made.grpc.listen.is_loopback


@pytest.mark.parametrize("name", ["grpc.listen", "http.listen"])
@pytest.mark.parametrize("further", [TLS, {"insecure": True}, {}])
def test_keys_cannot_be_switched_off_beyond_loopback(name: str, further: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded({name: "0.0.0.0:1", "auth": "off", **further})
    assert caught.value.setting == "--auth"


@pytest.mark.parametrize(("given", "missing"), [("tls.cert", "tls.key"), ("tls.key", "tls.cert")])
def test_a_certificate_and_its_key_come_together(given: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=f"needs {missing} beside it") as caught:
        loaded({given: "/file"})
    assert caught.value.setting == "--" + given.replace(".", "-")


def test_request_ids_outlive_accepted_timestamps_and_rollups_outlive_events() -> None:
    assert loaded({"limits.past_days": "50", "retention.events_days": "51"}).limits.past_days == 50
    with pytest.raises(ConfigError, match=r"must be more than limits\.past_days"):
        loaded({"limits.past_days": "50", "retention.events_days": "50"})
    with pytest.raises(ConfigError, match=r"must be at least retention\.events_days"):
        loaded({"retention.events_days": "401"})


JOINED: dict[str, object] = {"hub.address": "hub.internal:7432", "hub.key": "ct_live_k"}


@pytest.mark.parametrize(
    ("given", "at_fault", "said"),
    [
        ({"hub.address": "hub:1"}, "--hub", "needs a key"),
        ({**JOINED, "hub.key_file": "/k"}, "--hub-key-file", r"beside hub\.key"),
        ({**JOINED, "hub.plaintext": True, "hub.ca": "/ca"}, "--hub-plaintext", r"beside hub\.ca"),
        ({**JOINED, "hub.cert": "/c"}, "--hub-cert", r"needs hub\.cert_key"),
        ({**JOINED, "hub.cert_key": "/c"}, "--hub-cert-key", r"needs hub\.cert beside"),
        ({"tls.client_ca": "/ca"}, "--tls-client-ca", r"needs tls\.cert"),
    ],
)
def test_what_belongs_to_joining_a_hub_comes_together(given: dict[str, object], at_fault: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        loaded(given)
    assert caught.value.setting == at_fault
    assert "ct_live" not in caught.value.message


@pytest.mark.parametrize(
    ("given", "secure"),
    [
        ({}, True),
        ({"hub.plaintext": True}, False),
        ({"hub.ca": "/ca"}, True),
        ({"hub.address": "127.0.0.1:1"}, False),
        ({"hub.address": "localhost:1"}, False),
        ({"hub.address": "127.0.0.1:1", "hub.ca": "/ca"}, True),
        ({"hub.address": "[::1]:1", "hub.cert": "/c", "hub.cert_key": "/k"}, True),
    ],
)
def test_the_road_to_a_hub_is_encrypted_beyond_loopback(given: dict[str, object], *, secure: bool) -> None:
    assert loaded(JOINED | given).hub.is_secure is secure


def test_a_hub_key_without_a_hub_is_said_to_be_in_vain() -> None:
    assert load({}, HOME | {"COSTD_HUB_KEY": "ct_live_k"}).warnings == [
        "COSTD_HUB_KEY is ignored: there is no hub.address"
    ]


def test_a_hub_has_ports_and_folders_of_its_own_and_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    hub, sidecar = load({}, HOME, mode="hub").config, loaded()
    assert (hub.mode, sidecar.mode) == ("hub", "sidecar")
    assert (hub.data_dir, hub.grpc.socket) == (Path("/var/lib/costd-hub"), Path("/run/costd/costd-hub.sock"))
    assert {hub.grpc.listen, hub.http.listen}.isdisjoint({sidecar.grpc.listen, sidecar.http.listen})
    assert load({"grpc.listen": "127.0.0.1:9"}, HOME, mode="hub").config.grpc.listen == Address("127.0.0.1", 9)
    with pytest.raises(ConfigError, match="a hub belongs to no hub") as caught:
        load({}, HOME | {"COSTD_HUB": "other:1", "COSTD_HUB_KEY": "ct_live_k"}, mode="hub")
    assert caught.value.setting in {"COSTD_HUB", "COSTD_HUB_KEY"}


def test_a_command_finds_its_daemon_without_the_key_that_only_the_daemon_knows() -> None:
    made = load({}, HOME | {"COSTD_HUB": "hub:1"}, to_run=False).config
    assert (made.hub.address, made.hub.key) == (Address("hub", 1), None)
    assert load({}, HOME | {"COSTD_HUB": "hub:1"}, mode="hub", to_run=False).config.mode == "hub"


@pytest.mark.parametrize(("text", "seconds", "shown"), [
    ("24h", 86_400, "24h"), ("3d", 259_200, "72h"), ("90m", 5400, "90m"), ("45s", 45, "45s"), ("45", 45, "45s"),
    ("1 H", 3600, "1h"),
])  # fmt: skip
def test_a_duration_has_a_unit_or_is_in_seconds(text: str, seconds: int, shown: str) -> None:
    made = loaded({"sync.max_age": text})
    assert made.sync.max_age == seconds
    assert made.shown()["sync.max_age"]["value"] == shown


def test_both_doors_cannot_have_one_port() -> None:
    with pytest.raises(ConfigError, match="must differ"):
        loaded({"http.listen": "127.0.0.1:7430"})
    assert loaded({"http.listen": "127.0.0.1:0", "grpc.listen": "127.0.0.1:0"}).http.listen.port == 0


# --- places ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("as_user")
def test_data_is_kept_under_the_state_folder() -> None:
    assert loaded().data_dir == Path("/home/someone/.local/state/costd")
    assert loaded(environ={"XDG_STATE_HOME": "/state"}).data_dir == Path("/state/costd")
    assert loaded(environ={"XDG_STATE_HOME": "relative"}).data_dir == Path("/home/someone/.local/state/costd")


def test_root_keeps_data_and_socket_in_the_system_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    made = loaded()
    assert (made.data_dir, made.grpc.socket) == (Path("/var/lib/costd"), Path("/run/costd/costd.sock"))


@pytest.mark.usefixtures("as_user")
def test_an_account_without_a_home_must_name_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_account_home", lambda: "")
    with pytest.raises(ConfigError, match="--data-dir"):
        load({}, {})
    assert load({"data_dir": "/d"}, {}).config.data_dir == Path("/d")


@pytest.mark.parametrize("environ", [{}, {"COSTD_DATA_DIR": "/d"}])
def test_the_socket_lies_in_a_data_folder_that_was_given(environ: dict[str, str]) -> None:
    made = loaded({} if environ else {"data_dir": "/d"}, environ | {"XDG_RUNTIME_DIR": "/run/user/1"})
    assert made.grpc.socket == Path("/d/costd.sock")


@pytest.mark.usefixtures("as_user")
def test_the_socket_of_the_usual_data_folder_lies_in_the_runtime_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_account_home", lambda: HOME["HOME"])
    assert loaded(environ={"XDG_RUNTIME_DIR": "/run/user/1"}).grpc.socket == Path("/run/user/1/costd/costd.sock")


@pytest.mark.usefixtures("as_user")
def test_daemons_never_share_a_socket() -> None:
    """Whatever makes the data folders differ makes the sockets differ."""
    long = "/data/" + "x" * 110
    runtime = {"XDG_RUNTIME_DIR": "/run/user/1"}
    sockets = [
        loaded(environ=runtime | {"XDG_STATE_HOME": "/a"}).grpc.socket,
        loaded(environ=runtime | {"XDG_STATE_HOME": "/b"}).grpc.socket,
        loaded(environ=runtime | {"HOME": "/home/other"}).grpc.socket,
        loaded({"data_dir": long + "a"}, runtime).grpc.socket,
        loaded({"data_dir": long + "b"}, runtime).grpc.socket,
        loaded({"data_dir": long + "a"}).grpc.socket,
        loaded({"data_dir": long + "b"}).grpc.socket,
        loaded({"data_dir": long + "a"}, {"XDG_RUNTIME_DIR": "/run/" + "y" * 100}).grpc.socket,
    ]
    assert len({os.fspath(path) for path in sockets if path}) == 7  # the last is of the same folder as the sixth
    assert all(len(os.fsencode(path)) <= 100 for path in sockets if path)


def test_the_socket_can_be_off_or_elsewhere() -> None:
    assert loaded({"grpc.socket": "off"}).grpc.socket is None
    assert loaded({"grpc.socket": "./auto"}).grpc.socket == Path.cwd() / "auto"
    assert loaded({"grpc.listen": "off"}).grpc.listen is None


# --- showing -----------------------------------------------------------------------------------------------------


def test_what_is_shown_says_where_each_value_comes_from() -> None:
    shown = loaded({"auth": "off"}, {"COSTD_SHUTDOWN_GRACE_S": "3"}).shown()
    assert shown["auth"] == {"value": "off", "origin": "--auth"}
    assert shown["shutdown.grace_s"] == {"value": 3, "origin": "COSTD_SHUTDOWN_GRACE_S"}
    assert shown["grpc.listen"] == {"value": "127.0.0.1:7430", "origin": "default"}


def test_a_secret_is_neither_shown_nor_repeated_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Setting("queue.max_records", Whole(1, 9), 5, "A secret.", "", secret=True, in_file=True)
    others = tuple(setting for setting in SETTINGS if setting.name != secret.name)
    monkeypatch.setattr(config_module, "SETTINGS", (*others, secret))
    assert loaded({"queue.max_records": "7"}).shown()["queue.max_records"]["value"] == "********"
    with pytest.raises(ConfigError) as caught:
        loaded({"queue.max_records": "hunter2"})
    assert "hunter2" not in caught.value.message
