"""The store: an object store that keeps the landing zone beside the home, so that a new machine has it all.

One machine writes at a time: the object `writer.json` is taken by a conditional put and renewed while a run lasts; one
that stays as it is for a minute is of a machine that is gone. Objects are put whole or not at all.
"""

import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipelines.errors import ArchiveError, Busy, SettingsError
from pipelines.settings import LOOPBACK, Settings

WRITER = "writer.json"
LEASE_SECONDS, RENEW_SECONDS, LOOK_SECONDS = 60.0, 15.0, 2.0
REQUEST_SECONDS, ATTEMPTS = 120, 6


class StoreError(ArchiveError):
    """The object store refused, could not be reached, or is another machine's by now."""


class Store:
    """The archive's part of an object store. Raises SettingsError where the library is missing."""

    def __init__(self, settings: Settings) -> None:
        try:
            import obstore
            from obstore.exceptions import BaseError
        except ImportError:
            raise SettingsError(
                "TASK_ARCHIVE_STORE needs a library: pip install 'livepeer-task-archive[store]'"
            ) from None
        self._obstore: Any = obstore
        self._errors: tuple[type[BaseException], ...] = (BaseError, OSError, ValueError, NotImplementedError)
        self._settings = settings
        self.url = settings.store or ""
        endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))
        options: Any = {
            "timeout": f"{REQUEST_SECONDS}s",
            "allow_http": settings.allow_http or endpoint.hostname in LOOPBACK,
        }
        with self._refusals():
            self._store = obstore.store.from_url(
                self.url,
                client_options=options,
                retry_config={"max_retries": ATTEMPTS},
            )
        self._lost = threading.Event()

    # ------------------------------------------------------------------------------------------------------- objects

    def put(self, key: str, data: bytes | Path) -> None:
        """Puts an object, whole or not at all. Raises StoreError."""
        self._check()
        with self._refusals():
            self._obstore.put(self._store, key, data)

    def get(self, key: str) -> bytes | None:
        """An object; None where there is none."""
        with self._refusals():
            try:
                return bytes(self._obstore.get(self._store, key).bytes())
            except FileNotFoundError:
                return None

    def delete(self, keys: list[str]) -> None:
        if keys:
            self._check()
            with self._refusals():
                self._obstore.delete(self._store, keys)

    def copy(self, source: str, target: str) -> None:
        self._check()
        with self._refusals():
            self._obstore.copy(self._store, source, target)

    def sizes(self, prefix: str, after: str | None = None) -> dict[str, int]:
        """The objects below a prefix, behind a key in order, with their bytes."""
        with self._refusals():
            listed = self._obstore.list(self._store, f"{prefix}/", offset=after)
            return {each["path"]: each["size"] for batch in listed for each in batch}

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders directly below a prefix."""
        with self._refusals():
            found = self._obstore.list_with_delimiter(self._store, prefix)["common_prefixes"]
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in found)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turns what the library raises into one line, without addresses, which may hold a signature."""
        try:
            yield
        except self._errors as error:
            said = (str(error).splitlines() or [type(error).__name__])[0].rsplit(" - ", 1)[-1]
            said = re.sub(r"\w+://\S+|: <.*", "", said)[:200].rstrip(" :")
            raise StoreError(f"{self.url}: {said}") from None

    # -------------------------------------------------------------------------------------------------------- writer

    @contextmanager
    def held(self) -> Iterator[None]:
        """Makes this process the store's one writer for as long as it is open. Raises Busy after the wait."""
        mine = {"holder": f"{socket.gethostname()}, process {os.getpid()}", "id": uuid.uuid4().hex}
        tag = self._take(mine)
        over = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(mine, tag, over), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            over.set()
            renewing.join()
            if not self._lost.is_set():
                with suppress(StoreError):
                    self.delete([WRITER])

    def _take(self, mine: dict[str, Any]) -> str:
        """The tag of the object that says that we write."""
        until = time.monotonic() + self._settings.lock_wait_seconds
        seen, seen_at = "", time.monotonic()
        while True:
            with self._refusals():
                tag = self._try_put(mine, "create") if not seen else None
                if tag is None:
                    try:
                        found = self._obstore.head(self._store, WRITER)["e_tag"]
                    except FileNotFoundError:
                        seen = ""
                        continue
                    if found != seen:
                        seen, seen_at = found, time.monotonic()
                    elif time.monotonic() - seen_at > LEASE_SECONDS:
                        tag = self._try_put(mine, {"e_tag": seen})
            if tag is not None:
                return tag
            if time.monotonic() > until:
                holder = json.loads(self.get(WRITER) or b"{}").get("holder", "another machine")
                raise Busy(
                    f"{holder} writes to {self.url}; waited {self._settings.lock_wait_seconds:g} s "
                    "(TASK_ARCHIVE_LOCK_WAIT_SECONDS)"
                )
            time.sleep(LOOK_SECONDS)

    def _renew(self, mine: dict[str, Any], tag: str, over: threading.Event) -> None:
        renewed_at = time.monotonic()
        number = 0
        while not over.wait(RENEW_SECONDS):
            number += 1
            with suppress(StoreError), self._refusals():
                new = self._try_put(mine | {"renewed": number}, {"e_tag": tag})
                if new is None:
                    self._lost.set()
                    return
                tag, renewed_at = new, time.monotonic()
            if time.monotonic() - renewed_at > LEASE_SECONDS:
                self._lost.set()
                return

    def _try_put(self, what: dict[str, Any], mode: Any) -> str | None:
        """The tag of what was put; None where somebody else was faster."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with suppress(AlreadyExistsError, PreconditionError):
            return str(self._obstore.put(self._store, WRITER, json.dumps(what).encode(), mode=mode)["e_tag"])
        return None

    def _check(self) -> None:
        if self._lost.is_set():
            raise StoreError(f"another machine writes to {self.url} by now: this run stops")
