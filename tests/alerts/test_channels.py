"""What arrives at a real webhook, a real mail server and in a file, and what is said when it does not."""

import json
import logging
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from pipelines.alerts.channels import Mail, Undelivered, Webhook
from pipelines.alerts.message import Alert, Message
from pipelines.cli.main import main

Run = Callable[..., Result]
ME = "ops@example.com"


@pytest.fixture
def hostile() -> Message:
    """A message with words of the API that are made to harm whoever shows them."""
    words = "<!channel> `@all` [x](http://evil.example) & \x1b[31m\r\nBcc: victim@example.com\u202e"
    says = "default: 7 uploads failed\r\nBcc: victim@example.com\n<b>&"
    return Message(
        "/srv/archive", [Alert("failing", "default", "alarm", says, "task-archive status", 7, words)], [says]
    )


def test_the_test_message_reaches_every_channel(
    run: Run, webhook: Any, mail_server: Callable[..., Any], tmp_path: Path
) -> None:
    server = mail_server()
    file = tmp_path / "alerts.jsonl"
    for _ in range(2):
        result = run(
            "alert",
            "test",
            TASK_ARCHIVE_ALERT_WEBHOOK_URL=webhook.url,
            TASK_ARCHIVE_ALERT_EMAIL_TO=f"{ME}, second@example.com",
            TASK_ARCHIVE_ALERT_EMAIL_FROM="archive@example.com",
            TASK_ARCHIVE_ALERT_SMTP_URL=f"smtp://127.0.0.1:{server.port}",
            TASK_ARCHIVE_ALERT_FILE=str(file),
        )
        assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "ok   webhook: 200 ok",
        f"ok   e-mail: sent to {ME}, second@example.com",
        f"ok   file: appended to {file}",
    ]
    assert len(webhook.received) == 2
    assert "this is a test" in webhook.received[0]["text"]
    mail = server.received[1]
    assert (mail["From"], mail["To"]) == ("archive@example.com", f"{ME}, second@example.com")
    assert mail["Subject"] == "Task Archive: notice: this is a test; alerts of this archive arrive here"
    assert "look closer: task-archive alert check" in mail.get_content()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["alerts"][0]["condition"] for line in lines] == ["test", "test"]


def test_one_channel_that_fails_stops_no_other_and_is_told_by_the_exit_status(
    run: Run, webhook: Any, mail_server: Callable[..., Any], tmp_path: Path
) -> None:
    server = mail_server()
    webhook.status, webhook.body = 404, b"no_service"
    result = run(
        "alert",
        "test",
        TASK_ARCHIVE_ALERT_WEBHOOK_URL=webhook.url,
        TASK_ARCHIVE_ALERT_EMAIL_TO=ME,
        TASK_ARCHIVE_ALERT_SMTP_URL=f"smtp://127.0.0.1:{server.port}",
        TASK_ARCHIVE_ALERT_FILE=str(tmp_path / "none" / "alerts.jsonl"),
    )
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "FAIL webhook: it answered 404 no_service",
        f"ok   e-mail: sent to {ME}",
        f"FAIL file: it cannot be written: {tmp_path}/none/alerts.jsonl: No such file or directory",
    ]
    assert server.received[0]["From"] == ME  # where no sender is set


def test_without_a_channel_it_says_what_to_set(run: Run) -> None:
    result = run("alert", "test")
    assert result.exit_code == 2
    assert result.stderr.startswith("task-archive: no channel is set: set TASK_ARCHIVE_ALERT_WEBHOOK_URL")
    assert result.stderr.count("\n") == 1


def test_slack_gets_text_and_blocks_without_markup_of_the_api(webhook: Any, hostile: Message) -> None:
    assert Webhook(SecretStr(webhook.url)).send(hostile) == "200 ok"
    (told,) = webhook.received
    sections = [block["text"]["text"] for block in told["blocks"] if block["type"] == "section"]
    assert sections == [
        "*alarm* default: 7 uploads failed Bcc: victim@example.com &lt;b&gt;&amp;\n"
        "`&lt;!channel&gt; '@all' [x](http://evil.example) &amp; \\x1b[31m Bcc: victim@example.com\\u202e`\n"
        "Look closer: `task-archive status`",
        "over: default: 7 uploads failed Bcc: victim@example.com &lt;b&gt;&amp;",
        "Archive: /srv/archive",
    ]
    assert told["blocks"][0]["text"]["type"] == "plain_text"
    for section in sections:
        assert section in told["text"]
    assert told["text"].startswith("*Task Archive: alarm: default: 7 uploads failed")


def test_a_mail_is_injection_safe_and_reads_as_text(mail_server: Callable[..., Any], hostile: Message) -> None:
    server = mail_server()
    Mail(ME, ME, SecretStr(f"smtp://localhost:{server.port}")).send(hostile)
    (mail,) = server.received
    assert mail["Bcc"] is None
    assert mail["Subject"] == (
        "Task Archive: alarm: default: 7 uploads failed Bcc: victim@example.com <b>& (and 1 more)"
    )
    assert mail.get_content().splitlines()[:4] == [
        "alarm: default: 7 uploads failed Bcc: victim@example.com <b>&",
        "  “<!channel> `@all` [x](http://evil.example) & \\x1b[31m Bcc: victim@example.com\\u202e”",
        "  look closer: task-archive status",
        "",
    ]


def test_a_message_stays_within_what_slack_takes(webhook: Any) -> None:
    alerts = [
        Alert("failing", str(number), "alarm", "&" * 5000, "task-archive `status`" + "&" * 5000, quote="<" * 5000)
        for number in range(100)
    ]
    Webhook(SecretStr(webhook.url)).send(Message("/srv/archive", alerts, ["&" * 5000] * 100))
    blocks = webhook.received[0]["blocks"]
    assert len(blocks) <= 50
    assert max(len(block["text"]["text"]) for block in blocks) <= 3000
    assert len(blocks[0]["text"]["text"]) <= 150
    assert "Look closer: `task-archive 'status'&amp;" in webhook.received[0]["text"]
    assert "and 80 more: task-archive alert check" in webhook.received[0]["text"]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (403, b"invalid_token", "it answered 403 invalid_token"),
        (500, b"Cannot POST /services/T0123/B4567/x-secret-of-the-webhook", "it answered 500"),
        (500, b"secret", "it answered 500"),
        (302, b"", "it answered 302"),
    ],
)
def test_a_webhooks_refusal_is_one_line_without_its_secret(
    webhook: Any, hostile: Message, caplog: pytest.LogCaptureFixture, status: int, body: bytes, said: str
) -> None:
    webhook.status, webhook.body = status, body
    with caplog.at_level(logging.DEBUG), pytest.raises(Undelivered) as refused:
        Webhook(SecretStr(webhook.url)).send(hostile)
    assert str(refused.value) == said
    assert "secret" not in caplog.text


def test_servers_that_are_not_there(hostile: Message) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(Undelivered, match=r"^it cannot be reached: Connection refused$"):
            Webhook(SecretStr(f"http://127.0.0.1:{port}/secret")).send(hostile)
        with pytest.raises(Undelivered, match=r"^the mail server cannot be reached: Connection refused$"):
            Mail(ME, ME, SecretStr(f"smtp://u:secret@127.0.0.1:{port}")).send(hostile)


def test_user_and_password_of_the_mail_server(mail_server: Callable[..., Any], hostile: Message) -> None:
    server = mail_server()
    user, password = server.login
    mail = Mail(ME, ME, SecretStr(f"smtp://{user}:{quote(password, safe='')}@127.0.0.1:{server.port}"))
    assert mail.send(hostile) == f"sent to {ME}"
    with pytest.raises(Undelivered, match=r"^the mail server refused user and password \(535\)$"):
        Mail(ME, ME, SecretStr(f"smtp://robot:wrong@127.0.0.1:{server.port}")).send(hostile)
    with pytest.raises(Undelivered, match="beyond ASCII"):
        Mail(ME, ME, SecretStr(f"smtp://robot:w%C3%B6rd@127.0.0.1:{server.port}")).send(hostile)
    server.replies = {ME: f"550 no such box, {password}"}
    with pytest.raises(Undelivered) as refused:
        mail.send(hostile)
    assert str(refused.value) == f"the mail server refused every recipient: {ME}: 550 no such box, …"
    with pytest.raises(Undelivered, match=r"^the mail server refused some recipients: ops@example.com: 550"):
        Mail(f"{ME}, other@example.com", ME, mail.url).send(hostile)
    assert len(server.received) == 2


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key of the host `127.1`: loopback, though not by its usual names."""
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", "/CN=127.1", "-addext", "subjectAltName=DNS:127.1,IP:127.0.0.1", "-days", "2"]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *subject]
    subprocess.run([*made, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
    return paths


def test_beyond_loopback_mail_is_encrypted_and_the_certificate_checked(
    mail_server: Callable[..., Any], certificate: tuple[Path, Path], hostile: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    by_and_by, at_once, never = mail_server(tls_context=context), mail_server(ssl_context=context), mail_server()
    login = ":".join(quote(part, safe="") for part in never.login) + "@"
    for scheme, server in (("smtp", by_and_by), ("smtps", at_once)):
        mail = Mail(ME, ME, SecretStr(f"{scheme}://{login}127.1:{server.port}"))
        with pytest.raises(Undelivered, match="certificate verify failed"):
            mail.send(hostile)
        with monkeypatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(certificate[0]))
            assert mail.send(hostile) == f"sent to {ME}"
        assert server.encrypted == [True]
    with pytest.raises(Undelivered, match="would travel unencrypted"):
        Mail(ME, ME, SecretStr(f"smtp://{login}127.1:{never.port}")).send(hostile)
    Mail(ME, ME, SecretStr(f"smtp://127.1:{never.port}")).send(hostile)
    assert never.encrypted == [False]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TASK_ARCHIVE_ALERT_WEBHOOK_URL", "hooks.slack.com/secret"),
        ("TASK_ARCHIVE_ALERT_WEBHOOK_URL", "https://hooks.slack.com/secret with blanks"),
        ("TASK_ARCHIVE_ALERT_SMTP_URL", "http://mail.example.com/secret"),
        ("TASK_ARCHIVE_ALERT_SMTP_URL", "smtp://robot:secret/slash@mail.example.com"),
        ("TASK_ARCHIVE_ALERT_SMTP_URL", "smtp://robot:secret@mail.example.com:port"),
        ("TASK_ARCHIVE_ALERT_EMAIL_TO", "secret.example.com"),
        ("TASK_ARCHIVE_ALERT_EMAIL_TO", "me@example.com, secret@example.com\nBcc: you@example.com"),
    ],
)
def test_a_setting_that_is_wrong_is_told_without_its_value(run: Run, variable: str, value: str) -> None:
    result = run("alert", "test", **{variable: value})
    assert result.exit_code == 2
    assert result.stderr.startswith(f"task-archive: {variable}: must be ")
    assert "secret" not in result.stderr


def test_doctor_masks_the_secrets(run: Run) -> None:
    shown = (
        CliRunner()
        .invoke(
            main,
            ["doctor", "--verbose"],
            env={
                "TASK_ARCHIVE_ALERT_WEBHOOK_URL": "https://hooks.slack.com/services/T1/B2/x-canary-of-it",
                "TASK_ARCHIVE_ALERT_SMTP_URL": "smtp://robot:canary@mail.example.com:587",
            },
        )
        .stdout
    )
    assert "TASK_ARCHIVE_ALERT_WEBHOOK_URL" in shown
    assert "canary" not in shown
