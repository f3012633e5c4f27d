"""Alerts reach whom they are meant for: real receivers that fail, are slow, lead elsewhere and come back."""

from __future__ import annotations

import base64
import json
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import harness
from alert_receivers import Answer, Mailbox, Receiver, mail_server, receiving
from budget_calls import GrpcDoor, Spend, set_budget
from certificates import make_certs
from harness import Daemon, until
from scraping import Page

SECRET = "whsec_" + base64.b64encode(b"k3y-material-of-a-webhook").decode()
PASSWORD = "pa55word-of-the-mail-server"
DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
Launch = Callable[..., Daemon]


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certs(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def server_tls(certs: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "server.pem", certs / "server-key.pem")
    return context


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "webhook.secret"
    path.write_text(f"{SECRET}\n")
    return path


def spend(daemon: Daemon, cents: int, name: str = "video", team: str = "video") -> None:
    """Pass a threshold of a new budget."""
    set_budget(daemon, name, 100, scope={"team": team}, period="total", alert_thresholds=["0.5"], hard=False)
    record(daemon, cents, team)


def record(daemon: Daemon, cents: int, team: str = "video") -> None:
    door = GrpcDoor(daemon)
    try:
        assert door.record(Spend(cents, team=team)) == "kept"
    finally:
        door.close()


def listed(daemon: Daemon) -> list[dict[str, Any]]:
    """Every alert, oldest first."""
    answer = daemon.client.get("/api/alerts")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]["alerts"]
    return found[::-1]


def delivery(daemon: Daemon, channel: str = "webhook") -> dict[str, Any]:
    """That of the first alert."""
    alerts = listed(daemon)
    if not alerts:
        return {"delivered": None, "attempts": 0, "error": None}
    found: dict[str, Any] = next(each for each in alerts[0]["deliveries"] if each["channel"] == channel)
    return found


def is_delivered(daemon: Daemon, channel: str = "webhook") -> bool:
    return delivery(daemon, channel)["delivered"] is not None


def documented_check() -> Callable[[str, dict[str, str], bytes], bool]:
    """The receiver's code in docs/operations.md."""
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL) if "is_ours" in block
    )
    names: dict[str, Any] = {}
    exec(code, names)
    check: Callable[[str, dict[str, str], bytes], bool] = names["is_ours"]
    return check


# -- the webhook -------------------------------------------------------------------------------------------------------


def test_a_webhook_is_sent_what_happened_signed_as_the_documentation_says(launch: Launch, secret_file: Path) -> None:
    with receiving() as receiver:
        daemon = launch("--alerts-webhook-url", receiver.url, "--alerts-webhook-secret-file", str(secret_file))
        spend(daemon, 60)
        until(lambda: is_delivered(daemon), "the alert to be delivered")
        (post,) = receiver.posts
        check = documented_check()
        assert check(SECRET, post.headers, post.body)
        assert not check(SECRET, post.headers, post.body + b" ")
        assert not check("whsec_" + base64.b64encode(b"another").decode(), post.headers, post.body)
        later = post.headers | {"webhook-timestamp": str(int(post.headers["webhook-timestamp"]) + 1)}
        assert not check(SECRET, later, post.body)
        (alert,) = listed(daemon)
        assert post.headers["webhook-id"] == alert["id"]
        assert post.headers["content-type"] == "application/json"
        assert post.json["type"] == "budget.alert"
        assert post.json["text"] == 'Budget "video": 50 % of $1.00 is spent'
        deliveries = alert.pop("deliveries")
        assert post.json["data"] == alert
        assert alert["settled_usd"] == 0.6
        assert alert["limit_usd"] == 1
        assert alert["threshold"] == 0.5
        assert alert["kind"] == "settled"
        assert alert["window_end"] is None
        assert deliveries[0]["attempts"] == 1
        assert deliveries[0]["error"] is None
        assert post.path == "/hooks/t0ken-in-the-path?key=t0ken-in-the-query"


@pytest.mark.parametrize("status", [400, 401, 404, 410, 429, 500, 503])
def test_what_is_not_accepted_is_sent_again_until_it_is(launch: Launch, secret_file: Path, status: int) -> None:
    with receiving(Answer(status), Answer(status)) as receiver:
        daemon = launch("--alerts-webhook-url", receiver.url, "--alerts-webhook-secret-file", str(secret_file))
        spend(daemon, 60)
        until(lambda: is_delivered(daemon), "the alert to be delivered")
        assert len(receiver.posts) == 3
        assert delivery(daemon)["attempts"] == 3
        assert len({post.headers["webhook-id"] for post in receiver.posts}) == 1
        assert len({post.body for post in receiver.posts}) == 1
        page = Page.of(daemon)
        assert page.series("costd_alert_deliveries_total") == {
            '{channel="webhook",outcome="accepted"}': 1,
            '{channel="webhook",outcome="failed"}': 2,
        }
        assert page.series("costd_alerts_fired_total") == {'{kind="settled"}': 1}


def test_a_receiver_that_is_slow_or_hangs_up_is_tried_again(launch: Launch, secret_file: Path) -> None:
    with receiving(Answer(200, after_s=1.5), Answer(0)) as receiver:
        daemon = launch(
            "--alerts-webhook-url", receiver.url, "--alerts-webhook-secret-file", str(secret_file),
            "--alerts-timeout-s", "0.5",
        )  # fmt: skip
        spend(daemon, 60)
        until(lambda: "0.5 s" in (delivery(daemon)["error"] or ""), "the first attempt to fail")
        until(lambda: is_delivered(daemon), "the alert to be delivered")
        assert len(receiver.posts) == 3


def test_a_redirect_is_not_followed_wherever_it_leads(launch: Launch, secret_file: Path) -> None:
    with receiving() as elsewhere, receiving() as receiver:
        receiver.default = Answer(302, headers=(("Location", elsewhere.url),))
        daemon = launch("--alerts-webhook-url", receiver.url, "--alerts-webhook-secret-file", str(secret_file))
        spend(daemon, 60)
        until(lambda: delivery(daemon)["attempts"] >= 2, "two attempts")
        receiver.default = Answer(307, headers=(("Location", elsewhere.url),))
        until(lambda: "307" in (delivery(daemon)["error"] or ""), "the other redirect to be met")
        assert "redirect" in delivery(daemon)["error"]
        assert elsewhere.posts == []
        receiver.default = Answer(204)
        until(lambda: is_delivered(daemon), "the alert to be delivered", 40)


def test_a_time_to_retry_after_is_kept_to(launch: Launch, secret_file: Path) -> None:
    with receiving(Answer(429, headers=(("Retry-After", "2"),))) as receiver:
        daemon = launch("--alerts-webhook-url", receiver.url, "--alerts-webhook-secret-file", str(secret_file))
        spend(daemon, 60)
        until(lambda: is_delivered(daemon), "the alert to be delivered")
        first, second = receiver.posts
        assert second.at_s - first.at_s >= 1.9


def test_an_alert_that_is_not_accepted_lets_others_pass(launch: Launch, secret_file: Path) -> None:
    with receiving() as receiver:
        receiver.chosen = lambda post: Answer(400) if post.json["data"]["budget"] == "bad" else None
        daemon = launch("--alerts-webhook-url", receiver.url, "--alerts-webhook-secret-file", str(secret_file))
        spend(daemon, 60, "bad", "bad")
        until(lambda: delivery(daemon)["attempts"] >= 1, "an attempt")
        for number in range(5):
            spend(daemon, 60, f"good {number}", f"good {number}")

        def accepted() -> set[str]:
            return {alert["budget"] for alert in listed(daemon) if alert["deliveries"][0]["delivered"]}

        until(lambda: len(accepted()) == 5, "the others to be delivered", 30)
        assert "bad" not in accepted()
        assert Page.of(daemon).series("costd_alerts_undelivered") == {'{channel="webhook"}': 1}
        assert Page.of(daemon).series("costd_oldest_undelivered_alert_timestamp_seconds")


def test_across_kills_and_an_outage_everything_arrives_once_in_effect(tmp_path: Path, secret_file: Path) -> None:
    receiver = Receiver()
    port, url = receiver.port, receiver.url
    receiver.close()
    flags = ("--alerts-webhook-url", url, "--alerts-webhook-secret-file", str(secret_file))
    daemon = harness.start(tmp_path / "data", *flags)
    spend(daemon, 60)
    until(lambda: delivery(daemon)["attempts"] >= 1, "an attempt that fails")
    assert "cannot be reached" in delivery(daemon)["error"]
    daemon.kill()
    daemon = harness.start(tmp_path / "data", *flags)
    try:
        until(lambda: delivery(daemon)["attempts"] >= 2, "another attempt after the restart")
        assert daemon.stop() == 0
        # It comes back while the daemon is away.
        back = Receiver(port=port)
        daemon = harness.start(tmp_path / "data", *flags)
        until(lambda: is_delivered(daemon), "the alert to be delivered", 40)
        daemon.kill()
        daemon = harness.start(tmp_path / "data", *flags)
        record(daemon, 1)
        harness.until(lambda: Page.of(daemon).series("costd_records_accepted_total"), "the record")
        until(lambda: not daemon.query("SELECT 1 FROM alert_delivery WHERE next_ms IS NOT NULL"), "nothing to wait")
        assert len(back.posts) == 1
        assert len(listed(daemon)) == 1
        back.close()
    finally:
        daemon.kill()


def test_a_webhook_over_tls_is_verified(launch: Launch, certs: Path, server_tls: ssl.SSLContext) -> None:
    environ = {"COSTD_ALERTS_WEBHOOK_SECRET": "a plain text as the secret"}
    with receiving(tls=server_tls) as receiver:
        trusting = launch(
            "--alerts-webhook-url", receiver.url, "--alerts-ca", str(certs / "ca.pem"), env=environ, name="trusting"
        )
        spend(trusting, 60)
        until(lambda: is_delivered(trusting), "the alert to be delivered")
        assert documented_check()("a plain text as the secret", receiver.posts[0].headers, receiver.posts[0].body)
        wary = launch("--alerts-webhook-url", receiver.url, env=environ, name="wary")
        spend(wary, 60)
        until(lambda: delivery(wary)["attempts"] >= 1, "an attempt")
        assert "certificate" in delivery(wary)["error"]
        assert len(receiver.posts) == 1


def test_a_secret_that_is_replaced_in_its_file_is_used_from_then_on(launch: Launch, secret_file: Path) -> None:
    with receiving() as receiver:
        daemon = launch("--alerts-webhook-url", receiver.url, "--alerts-webhook-secret-file", str(secret_file))
        secret_file.unlink()
        spend(daemon, 60)
        until(lambda: "cannot be read" in (delivery(daemon)["error"] or ""), "an attempt without the file")
        secret_file.write_text("the secret after that one")
        until(lambda: is_delivered(daemon), "the alert to be delivered")
        assert documented_check()("the secret after that one", receiver.posts[0].headers, receiver.posts[0].body)


def test_a_receiver_that_does_not_answer_does_not_keep_the_daemon_from_stopping(
    launch: Launch, secret_file: Path
) -> None:
    with receiving() as receiver:
        receiver.default = Answer(200, after_s=8)
        daemon = launch(
            "--alerts-webhook-url", receiver.url, "--alerts-webhook-secret-file", str(secret_file),
            "--alerts-timeout-s", "60",
        )  # fmt: skip
        spend(daemon, 60)
        until(lambda: receiver.posts, "a post")
        assert daemon.stop(5) == 0, daemon.log
        assert "Traceback" not in daemon.log


def test_where_nobody_is_it_says_so(launch: Launch, secret_file: Path) -> None:
    url = "https://nowhere.invalid/t0ken"
    daemon = launch("--alerts-webhook-url", url, "--alerts-webhook-secret-file", str(secret_file))
    spend(daemon, 60)
    until(lambda: "cannot be reached" in (delivery(daemon)["error"] or ""), "an attempt", 40)
    assert "invalid" not in delivery(daemon)["error"]


# -- Slack's form ------------------------------------------------------------------------------------------------------


def test_slack_is_sent_text_that_says_no_more_than_it_should(launch: Launch, tmp_path: Path) -> None:
    with receiving() as receiver:
        path = tmp_path / "slack.url"
        path.write_text(receiver.url)
        daemon = launch("--alerts-slack-url-file", str(path))
        spend(daemon, 60, "<!channel> & co")
        until(lambda: is_delivered(daemon, "slack"), "the alert to be delivered")
        (post,) = receiver.posts
        assert set(post.json) == {"text"}
        first, *rest = post.json["text"].split("\n")
        assert first == 'Budget "&lt;!channel&gt; &amp; co": 50 % of $1.00 is spent'
        assert "spent: $0.60" in rest
        assert "webhook-signature" not in post.headers


# -- mail --------------------------------------------------------------------------------------------------------------


def mail_flags(port: int, *more: str) -> tuple[str, ...]:
    return (
        "--alerts-smtp-host", "localhost", "--alerts-smtp-port", str(port), "--alerts-mail-from", "costd@costd.example",
        "--alerts-mail-to", "ops@a.example,cfo@a.example", *more,
    )  # fmt: skip


def logged_in(tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "smtp.password"
    path.write_text(PASSWORD)
    return "--alerts-smtp-user", "costd", "--alerts-smtp-password-file", str(path)


@pytest.mark.filterwarnings("ignore:Requiring AUTH:UserWarning")  # of the mail server, meant so
@pytest.mark.parametrize("kind", ["starttls", "tls"])
def test_mail_goes_over_tls_with_a_login(
    launch: Launch, tmp_path: Path, certs: Path, server_tls: ssl.SSLContext, kind: str
) -> None:
    mailbox = Mailbox(PASSWORD)
    options = {kind: server_tls}
    with mail_server(mailbox, **options) as port:
        daemon = launch(
            *mail_flags(port, *logged_in(tmp_path)), "--alerts-smtp-tls", kind, "--alerts-ca", str(certs / "ca.pem")
        )
        spend(daemon, 60, "vidéo\u2028")
        until(lambda: is_delivered(daemon, "email"), "the mail to be taken")
        (mail,) = mailbox.mails
        assert mail["Subject"] == '[costd] Budget "vidéo ": 50 % of $1.00 is spent'
        assert mail["From"] == "costd@costd.example"
        assert mail["Message-ID"] == f"<{listed(daemon)[0]['id']}@costd.example>"
        assert mailbox.recipients == [["ops@a.example", "cfo@a.example"]]
        assert set(mailbox.logins) == {"costd"}
        assert "$0.60" in mail.get_content()


def test_mail_that_is_put_off_is_sent_again_with_the_same_id(launch: Launch) -> None:
    mailbox = Mailbox()
    mailbox.refusals = ["451 try later", "554 no; you said t0ken"]
    with mail_server(mailbox) as port:
        daemon = launch(*mail_flags(port, "--alerts-smtp-tls", "off"))
        spend(daemon, 60)
        until(lambda: "554" in (delivery(daemon, "email")["error"] or ""), "the second refusal")
        assert "t0ken" not in delivery(daemon, "email")["error"]
        until(lambda: is_delivered(daemon, "email"), "the mail to be taken")
        assert delivery(daemon, "email")["attempts"] == 3
        assert len(mailbox.mails) == 1


def test_an_address_that_does_not_exist_keeps_the_mail_from_nobody_else_and_repeats_it_to_nobody(
    launch: Launch,
) -> None:
    mailbox = Mailbox()
    mailbox.unknown = {"cfo@a.example"}
    with mail_server(mailbox) as port:
        daemon = launch(*mail_flags(port, "--alerts-smtp-tls", "off"))
        spend(daemon, 60)
        until(lambda: is_delivered(daemon, "email"), "the mail to be taken")
        assert mailbox.recipients == [["ops@a.example"]]
        assert "cfo@a.example" in daemon.log
        mailbox.unknown = {"cfo@a.example", "ops@a.example"}
        spend(daemon, 60, "other", "other")
        until(lambda: listed(daemon)[-1]["deliveries"][0]["error"], "a mail that nobody gets")
        assert "550" in listed(daemon)[1]["deliveries"][0]["error"]


def test_a_mail_server_that_cannot_be_trusted_or_offers_no_tls_gets_no_password(
    launch: Launch, tmp_path: Path, server_tls: ssl.SSLContext
) -> None:
    mailbox = Mailbox(PASSWORD)
    with mail_server(mailbox, starttls=server_tls) as port:
        daemon = launch(*mail_flags(port, *logged_in(tmp_path)), name="wary")
        spend(daemon, 60)
        until(lambda: delivery(daemon, "email")["attempts"] >= 1, "an attempt")
        assert "certificate" in delivery(daemon, "email")["error"]
    with mail_server(Mailbox()) as port:
        daemon = launch(*mail_flags(port, *logged_in(tmp_path)), name="strict")
        spend(daemon, 60)
        until(lambda: delivery(daemon, "email")["attempts"] >= 1, "an attempt")
        assert "STARTTLS" in delivery(daemon, "email")["error"]
    assert mailbox.logins == []


@pytest.mark.filterwarnings("ignore:Requiring AUTH:UserWarning")  # of the mail server, meant so
def test_a_wrong_password_is_told_of_and_not_repeated(launch: Launch, tmp_path: Path) -> None:
    mailbox = Mailbox("another password than that one")
    with mail_server(mailbox) as port:
        daemon = launch(*mail_flags(port, *logged_in(tmp_path), "--alerts-smtp-tls", "off"))
        spend(daemon, 60)
        until(lambda: "535" in (delivery(daemon, "email")["error"] or ""), "an attempt")
        assert PASSWORD not in daemon.log


# -- all together ------------------------------------------------------------------------------------------------------


def test_a_way_out_that_is_stuck_holds_up_no_other(launch: Launch, secret_file: Path) -> None:
    mailbox = Mailbox()
    with receiving() as slack, receiving() as stuck, mail_server(mailbox) as port:
        stuck.default = Answer(200, after_s=5)
        daemon = launch(
            *mail_flags(port, "--alerts-smtp-tls", "off"),
            "--alerts-webhook-url", stuck.url, "--alerts-webhook-secret-file", str(secret_file),
            "--alerts-slack-url", slack.url,
        )  # fmt: skip
        spend(daemon, 60)
        until(lambda: is_delivered(daemon, "slack") and is_delivered(daemon, "email"), "the others", 10)
        assert len(slack.posts) == len(mailbox.mails) == 1


def test_the_log_has_one_line_for_an_alert_and_no_secret_is_anywhere(launch: Launch, tmp_path: Path) -> None:
    with receiving() as receiver:
        receiver.default = Answer(500)
        environ = {
            "COSTD_ALERTS_WEBHOOK_URL": receiver.url,
            "COSTD_ALERTS_WEBHOOK_SECRET": SECRET,
            "COSTD_ALERTS_SLACK_URL": receiver.url,
            "COSTD_ALERTS_SMTP_PASSWORD": PASSWORD,
        }
        flags = mail_flags(1, "--alerts-smtp-user", "costd", "--log-level", "debug", "--log-format", "json")
        daemon = launch(*flags, env=environ)
        spend(daemon, 60)
        until(lambda: all(each["attempts"] for each in listed(daemon)[0]["deliveries"]) if listed(daemon) else False,
              "every way to be tried")  # fmt: skip
        lines = [json.loads(line) for line in daemon.log.splitlines()]
        (line,) = [line for line in lines if line.get("budget") == "video"]
        assert (line["level"], line["kind"], line["threshold"]) == ("warning", "settled", "0.5")
        assert line["message"] == 'Budget "video": 50 % of $1.00 is spent'
        assert (line["settled_nano_usd"], line["limit_nano_usd"]) == (600_000_000, 1_000_000_000)
        shown = harness.costd("config", "show", "--json", *flags, "--data-dir", str(tmp_path / "x"), env=environ)
        assert shown.returncode == 0, shown.stderr
        heard = daemon.log + daemon.client.get("/metrics").text + daemon.client.get("/api/alerts").text + shown.stdout
        tested = harness.costd("alerts", "test", "--data-dir", str(daemon.data_dir))
        heard += tested.stdout + tested.stderr
        assert daemon.stop() == 0
        files = b"".join(path.read_bytes() for path in daemon.data_dir.iterdir() if path.is_file())
        for secret in (SECRET, SECRET[6:], PASSWORD, "t0ken-in-the-path", "t0ken-in-the-query"):
            assert secret not in heard
            assert secret.encode() not in files


def test_a_test_is_sent_by_every_way_and_says_what_came_of_it(launch: Launch, secret_file: Path) -> None:
    mailbox = Mailbox()
    with receiving() as receiver, receiving() as slack, mail_server(mailbox) as port:
        slack.default = Answer(403)
        daemon = launch(
            *mail_flags(port, "--alerts-smtp-tls", "off"),
            "--alerts-webhook-url", receiver.url, "--alerts-webhook-secret-file", str(secret_file),
            "--alerts-slack-url", slack.url,
        )  # fmt: skip
        done = harness.costd("alerts", "test", "--json", "--data-dir", str(daemon.data_dir))
        assert done.returncode == 1
        assert {each["channel"]: each["error"] for each in json.loads(done.stdout)["deliveries"]} == {
            "webhook": None,
            "slack": "it answered 403",
            "email": None,
        }
        slack.default = Answer(200)
        done = harness.costd("alerts", "test", "--data-dir", str(daemon.data_dir))
        assert done.returncode == 0, done.stdout + done.stderr
        assert documented_check()(SECRET, receiver.posts[0].headers, receiver.posts[0].body)
        assert receiver.posts[0].json["type"] == "budget.alert.test"
        assert mailbox.mails[0]["Subject"] == "[costd] This is a test of costd's alerts"
        assert listed(daemon) == []
        denied = harness.costd("alerts", "test", "--address", daemon.grpc, "--key", daemon.key(role="read"))
        assert denied.returncode == 3


def test_without_any_way_out_a_test_says_so(launch: Launch) -> None:
    daemon = launch()
    done = harness.costd("alerts", "test", "--data-dir", str(daemon.data_dir))
    assert done.returncode == 1
    assert "alerts.webhook_url" in done.stdout
    spend(daemon, 60)
    until(lambda: listed(daemon), "an alert")
    assert listed(daemon)[0]["deliveries"] == []


# -- lists -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with three alerts."""
    daemon = harness.start(tmp_path_factory.mktemp("talkative") / "data")
    for name in ("one", "two", "three"):
        spend(daemon, 60, name, name)
        until(lambda name=name: any(alert["budget"] == name for alert in listed(daemon)), "an alert")
    yield daemon
    daemon.kill()


def test_alerts_are_listed_by_pages_newest_first(talkative: Daemon) -> None:
    first = talkative.client.get("/api/alerts", params={"limit": 2}).json()["data"]
    assert [alert["budget"] for alert in first["alerts"]] == ["three", "two"]
    rest = talkative.client.get("/api/alerts", params={"limit": 2, "cursor": first["next_cursor"]}).json()["data"]
    assert ([alert["budget"] for alert in rest["alerts"]], rest["next_cursor"]) == (["one"], None)
    only = talkative.client.get("/api/alerts", params={"budget": "two"}).json()["data"]["alerts"]
    assert [alert["budget"] for alert in only] == ["two"]
    by_id = talkative.client.get("/api/alerts", params={"budget": only[0]["budget_id"]}).json()["data"]["alerts"]
    assert by_id == only


@pytest.mark.parametrize(("field", "value"), [("limit", "0"), ("limit", "1001"), ("cursor", "x"), ("cursor", "-1")])
def test_what_is_wrong_with_a_question_is_named(talkative: Daemon, field: str, value: str) -> None:
    answer = talkative.client.get("/api/alerts", params={field: value})
    assert answer.status_code == 400
    assert answer.json()["details"]["field"] == field


def test_the_list_needs_a_key_that_may_read(talkative: Daemon) -> None:
    headers = {"Authorization": f"Bearer {talkative.key('writes', role='ingest')}"}
    assert talkative.client.get("/api/alerts", headers=headers).status_code == 403
    assert talkative.client.get("/api/alerts", headers={"Authorization": ""}).status_code == 401


def test_the_command_line_lists_them_too(talkative: Daemon) -> None:
    where = ("--data-dir", str(talkative.data_dir))
    found = json.loads(harness.costd("alerts", "list", "--json", "--limit", "2", *where).stdout)
    assert [alert["budget"] for alert in found["alerts"]] == ["three", "two"]
    rest = json.loads(harness.costd("alerts", "list", "--json", "--cursor", found["next_cursor"], *where).stdout)
    assert [alert["budget"] for alert in rest["alerts"]] == ["one"]
    assert rest["alerts"][0]["settled_usd"] == "0.6"
    csv = harness.costd("alerts", "list", "--csv", *where).stdout.splitlines()
    assert len(csv) == 4
    table = harness.costd("alerts", "list", "--budget", "one", *where).stdout
    assert "$0.60" in table
    assert "two" not in table
