"""The message: all that one look found, in the form that each channel takes."""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pipelines.text import printable

# alarm: a state that needs action. It is sent again while it lasts, and once when it is over.
# notice: something new. It is sent once.
Severity = Literal["alarm", "notice"]

ALERTS_SHOWN = 20
# Characters; Slack takes 3,000 in all, and escaping makes five of one
SUMMARY_SHOWN, QUOTE_SHOWN, COMMAND_SHOWN = 280, 150, 150


@dataclass(frozen=True)
class Alert:
    """Something that is wrong now.

    condition: its name; subject: the account or the like that it holds for; summary: a sentence with the numbers;
    command: shows more; score: how bad it is, in the condition's own measure, higher is worse;
    quote: free text of the API or of an error; numbers: the numbers behind it, by name.
    """

    condition: str
    subject: str
    severity: Severity
    summary: str
    command: str
    score: float = 1
    quote: str | None = None
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The same for the same thing at the next look."""
        return f"{self.condition} {self.subject}"

    def lines(self) -> list[str]:
        """What it is, the words quoted, and the command to look closer; safe to print."""
        quote = [f"  “{_cut(self.quote, QUOTE_SHOWN)}”"] if self.quote else []
        return [f"{self.severity}: {_cut(self.summary, SUMMARY_SHOWN)}", *quote, f"  look closer: {self.command}"]


@dataclass(frozen=True)
class Message:
    """The alerts to tell, the worst first, and what was said of those that are over. `home`: the archive's folder."""

    home: str
    alerts: list[Alert]
    over: list[str] = field(default_factory=list)

    @property
    def headline(self) -> str:
        """The worst, in one line, and how much more there is."""
        said = [f"{alert.severity}: {alert.summary}" for alert in self.alerts] + [
            f"over: {summary}" for summary in self.over
        ]
        more = f" (and {len(said) - 1} more)" if len(said) > 1 else ""
        return f"Task Archive: {_cut(said[0], SUMMARY_SHOWN)}{more}"

    def as_text(self) -> str:
        """For a mail: plain text, a paragraph an alert."""
        parts = ["\n".join(alert.lines()) for alert in self.alerts[:ALERTS_SHOWN]]
        return "\n\n".join([*parts, *self._rest(), f"Archive: {printable(self.home)}"]) + "\n"

    def as_slack(self) -> dict[str, Any]:
        """For an incoming webhook of Slack and its like: blocks, and the same as text for those that show none.

        Escaped as Slack asks, free text in a code span besides: no link, no mention, no markup comes of it.
        """
        parts = [_slack(alert) for alert in self.alerts[:ALERTS_SHOWN]]
        parts += [_escaped(part) for part in [*self._rest(), f"Archive: {printable(self.home)}"]]
        return {
            "text": "\n\n".join([f"*{_escaped(self.headline)}*", *parts]),
            "blocks": [
                {"type": "header", "text": {"type": "plain_text", "text": self.headline[:150]}},
                *({"type": "section", "text": {"type": "mrkdwn", "text": part}} for part in parts),
            ],
        }

    def as_json(self) -> str:
        """For machines: one line."""
        told = {
            "told_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "home": self.home,
            "headline": self.headline,
            "alerts": [asdict(alert) for alert in self.alerts],
            "over": self.over,
        }
        return json.dumps(told, default=str)

    def _rest(self) -> list[str]:
        hidden = len(self.alerts) - ALERTS_SHOWN
        more = [f"and {hidden} more: task-archive alert check"] if hidden > 0 else []
        return more + [f"over: {_cut(summary, SUMMARY_SHOWN)}" for summary in self.over[:ALERTS_SHOWN]]


def test_message(home: str) -> Message:
    """What `task-archive alert test` sends."""
    summary = "this is a test; alerts of this archive arrive here"
    return Message(home, [Alert("test", home, "notice", summary, "task-archive alert check")])


def _slack(alert: Alert) -> str:
    quote = [_code(alert.quote, QUOTE_SHOWN)] if alert.quote else []
    summary = f"*{alert.severity}* {_escaped(_cut(alert.summary, SUMMARY_SHOWN))}"
    return "\n".join([summary, *quote, f"Look closer: {_code(alert.command, COMMAND_SHOWN)}"])


def _code(text: str, length: int) -> str:
    """A code span."""
    return f"`{_escaped(_cut(text, length).replace('`', chr(39)))}`"


def _escaped(text: str) -> str:
    """The three characters that mean something to Slack wherever they stand."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(text: str, length: int) -> str:
    """In one line, harmless, and no longer than so many characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= length else line[: length - 1] + "…"
