"""One HTTP client for one account: a page or a task at a time, with retries and typed failures."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from secrets import token_bytes
from statistics import median
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import msgspec
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential_jitter

from pipelines import __version__
from pipelines.errors import SettingsError
from pipelines.livepeer import failures
from pipelines.livepeer.answer import Answer, Limits, Reader
from pipelines.livepeer.jsontext import NotAnArray, split_array
from pipelines.livepeer.pace import Pace
from pipelines.livepeer.redact import Redactor
from pipelines.livepeer.tasks.source import PATH
from pipelines.livepeer.webhook import Webhook
from pipelines.settings import Settings

LONGEST_WAIT_SECONDS = 300.0
MOST_ROWS = 10_000  # of a page: the server sends 1000 at most

_NUMBER = re.compile("[0-9]{1,15}")


@dataclass(frozen=True)
class Page:
    """One answer of the task list.

    rows: each element's own bytes; total_count: X-Total-Count where asked for and given; next_cursor: the `cursor`
    of the Link header, the only part of it that is safe to follow; server_at_ms: the answer's Date, epoch ms.
    """

    rows: list[bytes]
    total_count: int | None
    next_cursor: str | None
    server_at_ms: int | None
    fetched_at_ms: int


@dataclass(frozen=True)
class TaskAnswer:
    """What `GET /task/{id}` said: status 200 with a payload, or 403, 404, 500 without."""

    status: int
    payload: bytes | None
    fetched_at_ms: int


@dataclass
class Traffic:
    """What a client has used so far, and what the answers' Dates say of the clocks.

    clock_skews: our clock minus the server's at each answer, seconds; earliest_server_at_ms: the lowest Date.
    """

    requests: int = 0
    attempts_repeated: int = 0
    bytes_received: int = 0
    clock_skews: list[float] = field(default_factory=list)
    earliest_server_at_ms: int | None = None

    @property
    def clock_skew_seconds(self) -> float | None:
        """The median, which one odd answer or a clock that jumps does not move; Dates are whole seconds."""
        return round(median(self.clock_skews), 1) if self.clock_skews else None


@dataclass(frozen=True)
class ClientOptions:
    """How hard to press: see the settings of the same names."""

    timeout_seconds: float = 120
    attempts: int = 6
    retry_wait_seconds: float = 1
    pace: Pace = field(default_factory=Pace)
    on_retry: Callable[[str], None] = field(default=lambda message: None)


def connect(
    settings: Settings,
    account: str,
    scrub: Callable[[str], str] | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> "Client":
    """The client of an account: sends no request yet and writes no file.

    scrub: takes secrets out of messages; say: gets a line for each attempt that is repeated. Raises SettingsError for
    an unknown account and where the key would travel unencrypted.
    """
    settings.check_origin()
    if scrub is None:  # nothing is kept, so that the fingerprints of what is redacted need not be those of the archive
        keys = [key.get_secret_value() for key in settings.api_keys.values()]
        scrub = Redactor(token_bytes(32), keys).scrub
    options = ClientOptions(
        timeout_seconds=settings.request_timeout_seconds,
        attempts=settings.attempts,
        retry_wait_seconds=settings.retry_wait_seconds,
        pace=Pace(settings.requests_per_second, settings.home.pace(account)),
        on_retry=say,
    )
    key = settings.accounts(account)[account].get_secret_value()
    return Client(settings.api_url, key, scrub, options, Limits.of(settings))


class Client:
    """Talks to one origin with one key; never follows a link or a redirect to another."""

    def __init__(
        self,
        api_url: str,
        api_key: str,
        scrub: Callable[[str], str],
        options: ClientOptions,
        limits: Limits,
    ) -> None:
        self.api_url = api_url
        self.host = urlsplit(api_url).netloc
        self.limits = limits
        self.traffic = Traffic()
        self._scrub = scrub
        self._options = options
        try:
            self._http = httpx.Client(
                headers={
                    "Authorization": f"Bearer {api_key}",
                    "Accept": "application/json",
                    "Accept-Encoding": "gzip",
                    "User-Agent": f"livepeer-task-archive/{__version__}",
                },
                timeout=httpx.Timeout(options.timeout_seconds, connect=min(20.0, options.timeout_seconds)),
                # Below the 5 s after which the server closes an idle connection: reusing a closed one costs an attempt.
                limits=httpx.Limits(max_connections=1, keepalive_expiry=4.0),
                follow_redirects=False,
                event_hooks={"response": [self._refuse_redirect]},  # before httpx reads where it leads
            )
        except (httpx.InvalidURL, ImportError, OSError, ValueError) as error:
            raise SettingsError(
                f"{self._one_line(str(error))}: look at HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE"
            ) from None
        self._reader = Reader(self._http, self.host, self.limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def list_tasks(
        self,
        *,
        limit: int,
        order: str | None = None,
        filters: list[dict[str, Any]] | None = None,
        cursor: str | None = None,
        count: bool = False,
        expect_row_fault: bool = False,
    ) -> Page:
        """A page of the list. Raises a failure of pipelines.livepeer.failures; with expect_row_fault a 500 at once."""
        return self._page(PATH, limit, order, filters, cursor, count, expect_row_fault)

    def list_deliveries(self, webhook_id: str, *, limit: int, since_ms: int, cursor: str | None = None) -> Page:
        """A page of the log of what a webhook sent since a time of the server's, oldest first: it only grows."""
        path = f"/webhook/{quote(webhook_id, safe='')}/log"
        since = [{"id": "createdAt", "value": {"gte": since_ms}}]
        return self._page(path, limit, "createdAt-false,id-false", since, cursor)

    def _page(
        self,
        path: str,
        limit: int,
        order: str | None,
        filters: list[dict[str, Any]] | None,
        cursor: str | None,
        count: bool = False,
        expect_row_fault: bool = False,
    ) -> Page:
        params: dict[str, str] = {"limit": str(limit)}
        if order:
            params["order"] = order
        if filters:
            params["filters"] = msgspec.json.encode(filters).decode()
        if count:
            params["count"] = "true"
        if cursor is not None:
            params["cursor"] = cursor
        answer = self._get(path, params, expect_row_fault)
        try:
            rows = split_array(answer.body, MOST_ROWS)
        except NotAnArray as error:
            raise failures.BadRequest(f"{self.host} answered {path} with no list: {error}") from None
        count_text = answer.headers.get("X-Total-Count", "")
        return Page(
            rows=rows,
            total_count=int(count_text) if _NUMBER.fullmatch(count_text) else None,
            next_cursor=_next_cursor(answer.headers.get("Link", "")),
            server_at_ms=_server_at_ms(answer),
            fetched_at_ms=time.time_ns() // 1_000_000,
        )

    def get_task(self, task_id: str, expect_row_fault: bool = False) -> TaskAnswer:
        """One task by its id, with the outcomes that say something about the task itself as values, not failures; with
        expect_row_fault a 500 at once."""
        try:
            # A dot is quoted too: in "." and ".." it would lead to another path.
            answer = self._get(f"{PATH}/{quote(task_id, safe='').replace('.', '%2E')}", {}, expect_row_fault)
            status, payload = answer.status, answer.body
        except failures.NotFound:
            status, payload = 404, None
        except failures.Forbidden:
            status, payload = 403, None
        except failures.RowFault:
            status, payload = 500, None
        return TaskAnswer(status, payload, time.time_ns() // 1_000_000)

    def list_webhooks(self) -> list[Webhook]:
        """The webhooks of the key's project. Raises a failure of pipelines.livepeer.failures."""
        try:
            return msgspec.json.decode(self._get("/webhook", {}).body, type=list[Webhook])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise failures.NotJson(f"{self.host} answered with something else than a list of webhooks") from None

    def _get(self, path: str, params: dict[str, str], expect_row_fault: bool = False) -> Answer:
        def stop(state: RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            if expect_row_fault and isinstance(error, failures.RowFault):
                return True
            most = error.most_attempts if isinstance(error, failures.TransientError) else None
            return state.attempt_number >= min(self._options.attempts, most or self._options.attempts)

        retrying = Retrying(
            retry=retry_if_exception_type(failures.TransientError),
            stop=stop,
            wait=self._wait_seconds,
            before_sleep=self._say_retry,
            reraise=True,
        )
        return retrying(self._attempt, path, params)

    def _attempt(self, path: str, params: dict[str, str]) -> Answer:
        self._options.pace.wait()
        self.traffic.requests += 1
        try:
            answer = self._reader.get(self.api_url + path, params)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise failures.Unreachable(f"cannot reach {self.host}: {self._one_line(str(error))}") from None
        except httpx.TimeoutException:
            raise failures.Interrupted(
                f"{self.host} did not answer within {self._options.timeout_seconds:g} s "
                "(TASK_ARCHIVE_REQUEST_TIMEOUT_SECONDS)"
            ) from None
        except httpx.TransportError as error:
            raise failures.Interrupted(f"the answer of {self.host} broke off: {self._one_line(str(error))}") from None
        except (httpx.InvalidURL, UnicodeError) as error:
            raise failures.BadRequest(
                f"{self.host} cannot be asked: {self._one_line(str(error))}: is LIVEPEER_API_URL right?"
            ) from None
        self.traffic.bytes_received += len(answer.body)
        self._raise_for_failure(answer)
        server_at_ms = _server_at_ms(answer)
        if server_at_ms is not None:
            traffic = self.traffic
            traffic.clock_skews.append(time.time() - server_at_ms / 1000)
            traffic.earliest_server_at_ms = min(traffic.earliest_server_at_ms or server_at_ms, server_at_ms)
        return answer

    def _refuse_redirect(self, response: httpx.Response) -> None:
        if not 300 <= response.status_code < 400:
            return
        try:
            target = urlsplit(response.headers.get("Location", ""))
            to = f"{target.scheme}://{target.hostname}" if target.hostname else "another address"
        except ValueError:
            to = "an address that is none"
        raise failures.Redirected(
            f"{self.host} redirects to {self._one_line(to)}: not followed, the key goes to the configured host only. "
            "If that is the right one, set LIVEPEER_API_URL to it"
        )

    def _raise_for_failure(self, answer: Answer) -> None:
        status = answer.status
        said = self._what_it_says(answer)
        is_json = "json" in answer.headers.get("Content-Type", "")
        if status == 200 and is_json and answer.body:
            return
        if status == 200:
            raise failures.NotJson(
                f"{self.host} answered with {said or 'an empty body'} instead of JSON: "
                "is LIVEPEER_API_URL right, or is a proxy in the way?"
            )
        if status == 429:
            raise failures.RateLimited(f"{self.host} limits the rate of requests (429)", _retry_after(answer))
        if status == 500:
            raise failures.RowFault(f"{self.host} failed with 500: {said}", _retry_after(answer))
        if status > 500:
            raise failures.ServerFault(f"{self.host} failed with {status}: {said}", _retry_after(answer))
        if status == 401:
            raise failures.WrongKey(
                f"{self.host} does not accept the API key (401): check LIVEPEER_API_KEY. It says: {said}"
            )
        if status == 403:
            if not is_json:
                why = "Is a proxy in the way?"
            elif "CORS" in said:
                why = "A key restricted by CORS rules cannot list tasks: take another"
            else:
                why = "The key's rules of access leave tasks out: take a key that may list them and get them by id"
            raise failures.Forbidden(f"{self.host} refuses this request (403): {said}. {why}")
        if status == 404:
            # The API says so in JSON; a page of a proxy must not pass for a task that is gone.
            kind = failures.NotFound if is_json else failures.BadRequest
            raise kind(f"{self.host} knows no {answer.path} (404): is LIVEPEER_API_URL right?")
        raise failures.BadRequest(f"{self.host} refuses the request ({status}): {said}")

    def _what_it_says(self, answer: Answer) -> str:
        """The error text of `{"errors": [..]}` or `{"message": ".."}`, scrubbed, since error bodies echo keys."""
        if "html" in answer.headers.get("Content-Type", ""):
            return "an HTML page"
        if answer.status == 200:
            named = answer.headers.get("Content-Type") or "something without a content type"
            return self._one_line(named) if answer.body else ""
        text = answer.body.decode(errors="replace")  # whatever the charset that it names
        try:
            body = msgspec.json.decode(answer.body)
            if isinstance(body, dict):
                errors = body.get("errors") or [body.get("message") or text]
                text = "; ".join(str(error) for error in errors) if isinstance(errors, list) else str(errors)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        return self._one_line(text)

    def _one_line(self, text: str) -> str:
        line = " ".join(self._scrub(text).split())
        return line if len(line) <= 200 else line[:199] + "…"

    def _wait_seconds(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        base = self._options.retry_wait_seconds
        backoff: float = wait_exponential_jitter(multiplier=base, max=LONGEST_WAIT_SECONDS, jitter=base)(state)
        asked = error.retry_after_seconds if isinstance(error, failures.TransientError) else None
        return backoff if asked is None else min(max(asked, 0.0), LONGEST_WAIT_SECONDS)

    def _say_retry(self, state: RetryCallState) -> None:
        self.traffic.attempts_repeated += 1
        error = state.outcome.exception() if state.outcome else None
        wait = state.next_action.sleep if state.next_action else 0
        self._options.on_retry(f"{error}; attempt {state.attempt_number + 1} in {wait:.1f} s")


def _next_cursor(link: str) -> str | None:
    """`cursor` of the `rel="next"` link; its host and scheme are not to be trusted (always http://)."""
    for part in link.split(","):
        target, _, parameters = part.partition(";")
        if 'rel="next"' in parameters:
            query = target.strip().strip("<>").partition("?")[2].partition("#")[0]
            values = parse_qs(query).get("cursor")
            return values[0] if values else None
    return None


def _server_at_ms(answer: Answer) -> int | None:
    moment = _http_date(answer.headers.get("Date", ""))
    return None if moment is None else int(moment.timestamp() * 1000)


def _retry_after(answer: Answer) -> float | None:
    """Retry-After in both its forms, seconds and an HTTP date (RFC 9110, 10.2.3), as seconds from now."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    until = _http_date(text)
    if until is None:
        return None
    now = _http_date(answer.headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
