"""Routes, API keys, ETags: a request in, a response out. Knows nothing of sockets."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Protocol
from urllib.parse import unquote

from pipelines.simulator.errors import ApiError, malformed_row, not_found, refused
from pipelines.simulator.listing import (
    legacy_page,
    next_link,
    parse_cursor,
    parse_filters,
    parse_limit,
    query_of,
    studio_page,
)
from pipelines.simulator.store import Account, Row, Store
from pipelines.simulator.webhooks import Webhooks
from pipelines.simulator.wire import Response, json_response

MAX_REQUEST_LINE = 16_384

_NOT_FOUND_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Error</title>
</head>
<body>
<pre>Cannot {method} {path}</pre>
</body>
</html>
"""


class Backend(Protocol):
    """What the routes need of the simulator."""

    seed: int
    api: str
    store: Store
    webhooks: Webhooks

    @property
    def accounts(self) -> Mapping[str, Account]:
        """By API key."""

    def list_as_of(self) -> int | None: ...

    def retry(self, task_id: str) -> None: ...


@dataclass(frozen=True)
class Request:
    """`target`: path and query as they were sent. `headers`: names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def is_list(self) -> bool:
        return self.method in ("GET", "HEAD") and self.path.rstrip("/") == "/api/task"


def answer(backend: Backend, request: Request) -> Response:
    if len(request.target) > MAX_REQUEST_LINE:
        return Response(431, [], b"", sent_bytes=0)
    try:
        response = _route(backend, request)
    except ApiError as error:
        response = json_response(error.status, error.body)
    return _not_modified(response) if _is_fresh(request, response) else response


def _route(backend: Backend, request: Request) -> Response:
    match request.method, request.path.strip("/").split("/"):
        case "GET" | "HEAD", ["api", "task"]:
            return _list_tasks(backend, request)
        case "GET" | "HEAD", ["api", "task", task_id]:
            return _get_task(backend, request, unquote(task_id))
        case "GET" | "HEAD", ["api", "webhook"]:
            return _list_webhooks(backend, request)
        case "GET" | "HEAD", ["api", "webhook", webhook_id, "log"]:
            return _list_deliveries(backend, request, webhook_id)
        case "POST", ["api", "task", task_id, "retry"]:
            return _retry_task(backend, request, task_id)
        case _, ["api", *_]:
            raise not_found()
    page = _NOT_FOUND_PAGE.format(method=request.method, path=escape(request.path)).encode()
    return Response(404, [("Content-Type", "text/html; charset=utf-8")], page)


def _list_tasks(backend: Backend, request: Request) -> Response:
    account = _authenticate(backend, request)
    if account.is_cors_restricted:
        raise refused(403, "access forbidden for CORS-enabled API key with restricted access")
    params = query_of(request.target)
    as_of = backend.list_as_of()
    if backend.api == "studio":
        salt = f"{backend.seed} {request.target}"
        page = studio_page(backend.store, account, params, as_of, salt)
    else:
        page = legacy_page(backend.store, account, params, as_of, opaque=backend.api == "opaque")
    headers = []
    if page.total is not None:
        headers.append(("X-Total-Count", str(page.total)))
    if page.next_cursor is not None:
        headers.append(("Link", next_link(request.headers.get("host", ""), request.target, page.next_cursor)))
    return json_response(200, page.body(), headers)


def _get_task(backend: Backend, request: Request, task_id: str) -> Response:
    row = _own_row(backend, request, task_id)
    if row.error:
        raise malformed_row(row.error)
    return json_response(200, row.body)


def _list_webhooks(backend: Backend, request: Request) -> Response:
    account = _authenticate(backend, request)
    registered = backend.webhooks.registered
    return json_response(200, [each.shown() for each in registered if each.project_id == account.project_id])


def _list_deliveries(backend: Backend, request: Request, webhook_id: str) -> Response:
    """What a webhook sent: newest first, or oldest first where that is asked for."""
    account = _authenticate(backend, request)
    if not any((each.id, each.project_id) == (webhook_id, account.project_id) for each in backend.webhooks.registered):
        raise not_found()
    params = query_of(request.target)
    limit, (offset, _) = parse_limit(params.get("limit")), parse_cursor(params.get("cursor"))
    entries = backend.webhooks.log(webhook_id)
    for name, window in parse_filters(params.get("filters")).windows.items():
        entries = [entry for entry in entries if entry[name] in window]
    if not params.get("order", "").startswith("createdAt-false"):
        entries.reverse()
    page = entries[offset : offset + limit]
    headers = [("X-Total-Count", str(len(entries)))] if page and params.get("count") else []
    if page:
        cursor = f"skip{offset + limit}" if len(page) == limit else "undefined"
        headers.append(("Link", next_link(request.headers.get("host", ""), request.target, cursor)))
    return json_response(200, page, headers)


def _retry_task(backend: Backend, request: Request, task_id: str) -> Response:
    row = _own_row(backend, request, task_id)
    if row.task().get("status", {}).get("phase") != "failed":
        raise refused(400, "task is not in a retryable state")
    backend.retry(task_id)
    return json_response(200, {"id": task_id})


def _own_row(backend: Backend, request: Request, task_id: str) -> Row:
    """A row by id: of any project of the user, deleted or not."""
    account = _authenticate(backend, request)
    row = backend.store.get(task_id)
    if row is None:
        raise not_found()
    if row.user_id != account.user_id:
        raise refused(403, "user can only request information on their own tasks")
    return row


def _authenticate(backend: Backend, request: Request) -> Account:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise refused(401, "request is not authenticated")
    if key not in backend.accounts:
        raise refused(401, f"no token {key} found")  # the real server echoes the key, too
    return backend.accounts[key]


def _is_fresh(request: Request, response: Response) -> bool:
    """Express's `fresh`: does the client hold this very answer already?"""
    if request.method not in ("GET", "HEAD") or response.status != 200:
        return False
    if "no-cache" in request.headers.get("cache-control", ""):
        return False
    known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    return "*" in known or any(("ETag", tag) in response.headers for tag in known)


def _not_modified(response: Response) -> Response:
    headers = [pair for pair in response.headers if pair[0] != "Content-Type"]
    return Response(304, headers, b"")
