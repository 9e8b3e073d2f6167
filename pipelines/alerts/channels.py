"""The ways by which a message reaches people: a webhook, e-mail and a file. None of them ever shows its secret."""

import http.client
import json
import re
import smtplib
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from pipelines.alerts.message import Message
from pipelines.errors import ArchiveError, in_one_line
from pipelines.settings import LOOPBACK, Settings
from pipelines.text import printable

TIMEOUT_SECONDS = 30
POLICY = policy.default.clone(max_line_length=900)  # folding at 78 leaves the first line of a long subject empty
LOCAL_MAIL_SERVER = "smtp://localhost:25"


class Undelivered(ArchiveError):
    """A channel did not take a message."""


class Channel(Protocol):
    """A way to people. `name` is for the log."""

    @property
    def name(self) -> str: ...

    def send(self, message: Message) -> str:
        """What the other side answered, in a few words. Raises Undelivered."""


def configured(settings: Settings) -> list[Channel]:
    """The channels that the settings name."""
    channels: list[Channel] = []
    if settings.alert_webhook_url is not None:
        channels.append(Webhook(settings.alert_webhook_url))
    if settings.alert_email_to is not None:
        to = settings.alert_email_to
        sender = settings.alert_email_from or to.split(",")[0].strip()
        channels.append(Mail(to, sender, settings.alert_smtp_url or SecretStr(LOCAL_MAIL_SERVER)))
    if settings.alert_file is not None:
        channels.append(File(settings.alert_file.expanduser()))
    return channels


@dataclass(frozen=True)
class Webhook:
    """An incoming webhook in the form of Slack, which Mattermost, Rocket.Chat and others take too."""

    url: SecretStr
    name: str = "webhook"

    def send(self, message: Message) -> str:
        """POSTs JSON, by the standard library: it logs no URL, which is the secret. No redirect is followed."""
        request = urllib.request.Request(
            self.url.get_secret_value(),
            data=json.dumps(message.as_slack()).encode(),
            headers={"Content-Type": "application/json", "User-Agent": "task-archive"},
        )
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_SECONDS) as answer:
                return f"{answer.status} {self._word(answer.read(100))}".strip()
        except urllib.error.HTTPError as error:
            raise Undelivered(f"it answered {error.code} {self._word(error.read(100))}".strip()) from None
        except urllib.error.URLError as error:
            reason = error.reason
            said = in_one_line(reason) if isinstance(reason, OSError) else type(reason).__name__
            raise Undelivered(f"it cannot be reached: {said}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Undelivered(f"it cannot be reached: {type(error).__name__}") from None

    def _word(self, body: bytes) -> str:
        """Slack answers in a word, such as ok or no_service. Anything else may hold the URL, and is not shown."""
        word = body.decode("latin-1").strip()
        in_url = re.split("[^a-z_]+", self.url.get_secret_value())
        return word if re.fullmatch("[a-z_]+", word) and word not in in_url else ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other: its POST would arrive as a GET without the message."""

    def redirect_request(self, *arguments: object) -> None:
        return None


@dataclass(frozen=True)
class Mail:
    """E-mail by SMTP. `to`: addresses with commas between them; `url`: smtp or smtps, with user and password or not."""

    to: str
    sender: str
    url: SecretStr
    name: str = "e-mail"

    def send(self, message: Message) -> str:
        """Sends it in plain text. smtps is TLS at once; smtp turns to it where the server can, but on loopback."""
        mail = EmailMessage(POLICY)
        mail["Subject"] = message.headline
        mail["From"], mail["To"] = self.sender, self.to
        mail["Date"], mail["Message-ID"] = formatdate(), make_msgid(domain="task-archive.invalid")
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.as_text())
        try:
            with self._connected() as server:
                refused = server.send_message(mail)
        except smtplib.SMTPAuthenticationError as error:
            raise Undelivered(f"the mail server refused user and password ({error.smtp_code})") from None
        except smtplib.SMTPRecipientsRefused as error:
            raise Undelivered(f"the mail server refused every recipient: {self._replies(error.recipients)}") from None
        except smtplib.SMTPResponseException as error:
            raise Undelivered(f"the mail server refused: {self._reply(error.smtp_code, error.smtp_error)}") from None
        except smtplib.SMTPException as error:
            raise Undelivered(f"the mail server cannot be used: {type(error).__name__}") from None
        except OSError as error:
            raise Undelivered(f"the mail server cannot be reached: {in_one_line(error)}") from None
        except UnicodeError:
            raise Undelivered("the mail server's user or password has characters beyond ASCII") from None
        if refused:
            raise Undelivered(f"the mail server refused some recipients: {self._replies(refused)}")
        return f"sent to {self.to}"

    def _connected(self) -> smtplib.SMTP:
        """A connection, encrypted and logged in as the URL wants. Raises Undelivered where the password would travel
        unencrypted."""
        parts = urlsplit(self.url.get_secret_value())
        host, user, password = parts.hostname or "", unquote(parts.username or ""), unquote(parts.password or "")
        context = ssl.create_default_context()
        if parts.scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, parts.port or 465, timeout=TIMEOUT_SECONDS, context=context)
        else:
            server = smtplib.SMTP(host, parts.port or (587 if user else 25), timeout=TIMEOUT_SECONDS)
        try:
            if parts.scheme == "smtp" and host not in LOOPBACK:
                server.ehlo()
                if server.has_extn("starttls"):
                    server.starttls(context=context)
                elif user:
                    raise Undelivered("the mail server offers no TLS: the password would travel unencrypted")
            if user:
                server.login(user, password)
        except BaseException:
            server.close()
            raise
        return server

    def _replies(self, replies: dict[str, tuple[int, bytes]]) -> str:
        return "; ".join(f"{recipient}: {self._reply(*reply)}" for recipient, reply in replies.items())

    def _reply(self, code: int, text: bytes | str) -> str:
        """A server's words, without the password should it repeat it."""
        said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        password = unquote(urlsplit(self.url.get_secret_value()).password or "")
        return f"{code} {printable(' '.join(said.split()).replace(password, '…') if password else said)[:200]}"


@dataclass(frozen=True)
class File:
    """A file that grows by a line of JSON a message, for whatever reads logs."""

    path: Path
    name: str = "file"

    def send(self, message: Message) -> str:
        """Appends a line."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(message.as_json() + "\n")
        except OSError as error:
            raise Undelivered(f"it cannot be written: {in_one_line(error)}") from None
        return f"appended to {self.path}"
