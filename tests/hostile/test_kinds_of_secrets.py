"""Secrets of many kinds at random places of hundreds of tasks: no byte of the home, of what is printed or of the
arguments of a process holds one, however it is written."""

import base64
import itertools
import json
import os
import random
import re
import sqlite3
import string
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import msgspec
import pyarrow.parquet as pq
import pytest

from pipelines.simulator import Simulator

pytestmark = pytest.mark.slow

TASKS = 400
SECRETS_A_TASK = 4
DIGITS, UPPER, LETTERS = string.digits, string.ascii_uppercase, string.ascii_letters
HEX, WORD = "0123456789abcdef", LETTERS + DIGITS
BASE64 = WORD + "+/"

Random = random.Random


def some(random: Random, alphabet: str, length: int) -> str:
    return "".join(random.choices(alphabet, k=length))


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def b64url(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


Made = tuple[str, list[str]]  # a text that holds secrets, and the secrets


def of(template: str, *secrets: str) -> Made:
    return template.format(*secrets), list(secrets)


def jwt(random: Random) -> str:
    head, body = b64url('{"alg":"HS256","typ":"JWT"}'), b64url(json.dumps({"sub": some(random, WORD, 20)}))
    return f"{head}.{body}.{some(random, WORD + '-_', 43)}"


def pem(random: Random) -> Made:
    lines = [some(random, BASE64, 64) for _ in range(3)]
    return "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join(lines) + "\n-----END RSA PRIVATE KEY-----", lines


def basic(random: Random) -> Made:
    user, password = some(random, LETTERS, 8), some(random, WORD, 14)
    sent = b64(f"{user}:{password}")
    return f"Authorization: Basic {sent}", [sent.rstrip("="), password]


def signed(name: str, length: int = 40, alphabet: str = WORD) -> Callable[[Random], Made]:
    """A URL with the secret as a parameter of its query."""
    return lambda r: of(f"https://cdn.example.com/in/video.mp4?expires=1&{name}={{0}}&x=1", some(r, alphabet, length))


#: Texts that give their secret away wherever they stand: in a URL, an error message, a note.
TEXTS: dict[str, Callable[[Random], Made]] = {
    "AWS access key id": lambda r: of("key AKIA{0} was refused", some(r, UPPER + DIGITS, 16)),
    "AWS temporary key id": lambda r: of("ASIA{0}", some(r, UPPER + DIGITS, 16)),
    "AWS secret key": lambda r: of("aws_secret_access_key={0}", some(r, BASE64, 40)),
    "AWS signed URL": lambda r: of(
        "https://b.s3.amazonaws.com/v.mp4?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={0}%2F20260101%2Fus-east-1"
        "%2Fs3%2Faws4_request&X-Amz-Security-Token={1}&X-Amz-Signature={2}",
        "AKIA" + some(r, UPPER + DIGITS, 16), some(r, WORD, 60), some(r, HEX, 64),
    ),
    "Google signed URL": lambda r: of(
        "https://storage.googleapis.com/b/v.mp4?X-Goog-Credential={0}%40p.iam.gserviceaccount.com&X-Goog-Signature={1}",
        some(r, WORD, 20), some(r, HEX, 128),
    ),
    "Google API key": lambda r: of("AIza{0}", some(r, WORD + "-_", 35)),
    "Azure shared access signature": lambda r: of(
        "https://a.blob.core.windows.net/c/v.mp4?sv=2022-11-02&sr=b&sig={0}%3D", some(r, WORD, 43)
    ),
    "Azure account key": lambda r: of(
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey={0}==;EndpointSuffix=c.windows.net", some(r, WORD, 86)
    ),
    "CloudFront signature": signed("Signature", 80, WORD + "-~_"),
    "JWT": lambda r: of("{0}", jwt(r)),
    "JWT as bearer": lambda r: of("401 for Bearer {0}", jwt(r)),
    "bearer token": lambda r: of("it said: Bearer {0} is not known", some(r, WORD, 36)),
    "basic authentication": basic,
    "Slack token": lambda r: of("xoxb-{0}", some(r, DIGITS, 11) + "-" + some(r, WORD, 24)),
    "Slack webhook": lambda r: of("https://hooks.slack.com/services/T00000000/B00000000/{0}", some(r, WORD, 24)),
    "GitHub token": lambda r: of("ghp_{0}", some(r, WORD, 36)),
    "GitHub fine-grained token": lambda r: of("github_pat_{0}", some(r, WORD + "_", 60)),
    "GitLab token": lambda r: of("glpat-{0}", some(r, WORD, 20)),
    "npm token": lambda r: of("npm_{0}", some(r, WORD, 36)),
    "Stripe key": lambda r: of("sk_live_{0}", some(r, WORD, 24)),
    "OpenAI key": lambda r: of("sk-proj-{0}", "7" + some(r, WORD, 44)),
    "Twilio key": lambda r: of("SK{0}", some(r, HEX, 32)),
    "webhook secret": lambda r: of("whsec_{0}", some(r, WORD, 32)),
    "private key": pem,
    "w3s proof": lambda r: of("w3s://{0}@/", some(r, WORD, 80)),
    "s3 user information": lambda r: of("s3://AKIA{0}:{1}@host/bucket", some(r, UPPER, 16), some(r, WORD, 40)),
    "s3 secret with slashes": lambda r: of("s3://user:{0}/{1}@host/bucket", some(r, WORD, 20), some(r, WORD, 19)),
    "s3+https user information": lambda r: of("s3+https://{0}:{1}@host/bucket", some(r, WORD, 20), some(r, WORD, 40)),
    "gs user information": lambda r: of("gs://user:{0}@bucket/x", some(r, WORD, 30)),
    "https password": lambda r: of("https://user:{0}@origin.example.com/v.mp4", some(r, WORD, 20)),
    "https password, encoded": lambda r: of("https://user:{0}%40{1}@host/v", some(r, WORD, 12), some(r, WORD, 12)),
    "https token as user": lambda r: of("https://{0}@origin.example.com/v.mp4", some(r, WORD, 32)),
    "rtmp stream key": lambda r: of("rtmp://user:{0}@live.example.com/app", some(r, WORD, 16)),
    "rtmp path": lambda r: of("rtmps://rtmp.livepeer.com/live/{0}", "-".join(some(r, HEX, 4) for _ in range(4))),
    "stream key": lambda r: of("streamKey={0}", "-".join(some(r, HEX, 4) for _ in range(4))),
    "signed URL, token": signed("token"),
    "signed URL, policy": signed("Policy", 120, WORD + "_~-"),
    "signed URL, hdnts": signed("hdnts"),
    "signed URL in a URL": lambda r: of(
        "https://proxy.example.com/?url=" + quote("https://o.example.com/v?sig=", safe="") + "{0}", some(r, WORD, 40)
    ),
    "cookie": lambda r: of("Cookie: session={0}; theme=dark", some(r, WORD, 32)),
    "password in text": lambda r: of("login failed: password={0}", some(r, WORD, 16)),
    "client secret in text": lambda r: of('{{"client_secret": "{0}"}}', some(r, WORD, 40)),
    "data address": lambda r: of("data:video/mp4;base64,{0}", some(r, WORD, 80)),
}  # fmt: skip

#: Names below which everything is a secret, whatever it looks like.
NAMED = (
    "jwt", "apiKey", "apiSecret", "pinataApiSecret", "Authorization", "X-Api-Key", "password", "passphrase",
    "access_token", "refreshToken", "client_secret", "privateKey", "encryptedKey", "streamKey", "sharedSecret",
    "webhookSecret", "mnemonic",
)  # fmt: skip


def named(name: str) -> Callable[[Random], tuple[dict[str, Any], list[str]]]:
    def make(random: Random) -> tuple[dict[str, Any], list[str]]:
        secret = some(random, WORD, 24)
        deep = random.choice([secret, [secret], {"value": secret}, [{"a": {"b": secret}}]])
        return {name: deep}, [secret]

    return make


def inside(value: dict[str, Any], *names: str) -> dict[str, Any]:
    """The object at a path, made where there is none."""
    for name in names:
        if not isinstance(value.get(name), dict):
            value[name] = {}
        value = value[name]
    return value


class Planter:
    """Puts secrets into tasks, and remembers them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.kinds = itertools.cycle([*TEXTS, *(f"under {name}" for name in NAMED)])
        self.secrets: dict[str, str] = {}  # with its kind

    def plant(self, task: dict[str, Any]) -> None:
        """A few more secrets at random places."""
        for _ in range(SECRETS_A_TASK):
            kind = next(self.kinds)
            if kind.startswith("under "):
                value, secrets = named(kind.removeprefix("under "))(self.random)
                self.put_object(task, value)
            else:
                text, secrets = TEXTS[kind](self.random)
                self.put_text(task, text)
            self.secrets |= dict.fromkeys(secrets, kind)

    def put_text(self, task: dict[str, Any], text: str) -> None:
        random = self.random
        place = random.randrange(9)
        params, output = inside(task, "params"), inside(task, "output")
        if place == 0:
            around = random.choice(["{}", "failed: {}", "could not fetch {} (403)"])
            task["status"]["errorMessage"] = around.format(text)
        elif place == 1:
            inside(params, "upload")["url"] = text
        elif place == 2:
            inside(params, "import")["url"] = text
        elif place == 3:
            inside(params, "export", "custom")["url"] = text
        elif place == 4:
            inside(output, "export", "ipfs")["videoFileUrl"] = text
        elif place == 5:
            task["name"] = text
        elif place == 6:
            inside(params, "exportData")["content"] = {"notes": [{"deep": [text]}]}
        elif place == 7:  # JSON as text within JSON
            task["surprise"] = json.dumps({"inner": json.dumps({"note": text})})
        else:  # a key
            inside(task, "extras")[text] = 1

    def put_object(self, task: dict[str, Any], value: dict[str, Any]) -> None:
        random = self.random
        place = random.randrange(6)
        params = inside(task, "params")
        if place == 0:
            inside(params, "export", "custom")["headers"] = value
        elif place == 1:
            inside(params, "export", "ipfs")["pinata"] = value
        elif place == 2:
            inside(params, "exportData")["content"] = {"settings": [value]}
        elif place == 3:
            task["surprise"] = json.dumps(value)
        elif place == 4:
            task["status"]["errorMessage"] = f"the answer was {json.dumps(value)}"
        else:
            task["unheard"] = {"of": value}


def spellings(secret: str) -> set[str]:
    """How a secret may be written in a file."""
    quoted = json.dumps(secret)[1:-1]
    return {secret, quote(secret, safe=""), quote(quote(secret, safe=""), safe=""), quoted, secret.replace("/", "\\/")}


class Finder:
    """Looks for any of many secrets in text: one search for runs of 12 characters, so that long texts are quick."""

    WINDOW = 12

    def __init__(self, secrets: dict[str, str]) -> None:
        self.written = {spelling: kind for secret, kind in secrets.items() for spelling in spellings(secret)}
        self.long = {spelling for spelling in self.written if len(spelling) >= self.WINDOW}
        self.starts: dict[str, list[str]] = {}
        for spelling in self.long:
            self.starts.setdefault(spelling[: self.WINDOW], []).append(spelling)

    def kinds_in(self, text: str) -> set[str]:
        found = set()
        window = self.WINDOW
        for run in re.finditer(r"[^\s\x00-\x1f\"<>]{12,}", text):
            piece = run[0]
            for start in range(len(piece) - window + 1):
                for spelling in self.starts.get(piece[start : start + window], ()):
                    if piece.startswith(spelling, start):
                        found.add(self.written[spelling])
        return found


def texts_under(home: Path) -> Iterator[tuple[str, str]]:
    """Every byte under the home, and what compressed files hold: columns of Parquet, tables of databases."""
    for path in sorted(home.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        name = str(path.relative_to(home))
        yield name, path.read_bytes().decode("latin-1")
        if path.suffix == ".parquet":
            for column in pq.read_table(path).flatten().columns:
                yield f"{name}: rows", "\n".join(json.dumps(value, default=str) for value in column.to_pylist())
        elif path.suffix == ".duckdb":
            with duckdb.connect() as connection:
                connection.execute(f"attach '{path}' as found (read_only)")
                for (table,) in connection.execute(
                    "select schema_name || '.' || table_name from duckdb_tables() where database_name = 'found'"
                ).fetchall():
                    rows = connection.execute(f"from found.{table}").fetchall()
                    yield f"{name}: {table}", "\n".join(str(row) for row in rows)
        elif path.suffix == ".db":
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                yield f"{name}: rows", "\n".join(database.iterdump())


class Watcher:
    """Reads the arguments of every process of this user that is there while it watches."""

    def __init__(self) -> None:
        self.arguments: set[str] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.arguments.add(path.read_bytes().replace(b"\0", b" ").decode("latin-1"))
                except OSError:
                    continue  # it has ended
            time.sleep(0.02)


def test_no_secret_of_any_kind_is_kept_or_shown(
    simulate: Callable[..., Simulator], clean_environment: None, tmp_path: Path, figure: Callable[..., None]
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    key, wrong = (some(random.Random(seed + n), WORD + "-", 36) for n in (1, 2))
    sim = simulate(tasks=TASKS, speed=0, now=None, keys={"default": key})
    planter = Planter(seed)
    planter.secrets |= {key: "the API key", wrong: "a wrong API key", b64(f"api:{key}"): "the API key as basic"}
    for task_id, task in sorted(sim.tasks().items()):
        task = json.loads(json.dumps(task))
        planter.plant(task)
        if task["type"] in ("upload", "transcode-file"):
            task["type"] = "export"  # the server masks parts of those
        sim.put_raw(task_id, msgspec.json.encode(task))
    echo = next(iter(sim.ids()))
    sim.put_raw(echo, json.dumps({**sim.tasks()[echo], "name": f"key {key} and {quote(key)}", "x": b64(key)}).encode())

    home, said = tmp_path / "home", ""
    environment = os.environ | {
        "LIVEPEER_API_URL": sim.url,
        "TASK_ARCHIVE_HOME": str(home),
        "TASK_ARCHIVE_RETRY_WAIT_SECONDS": "0",
        "TASK_ARCHIVE_ATTEMPTS": "2",
        "TASK_ARCHIVE_PAGE_SIZE": "20",  # several parts, so that the parsing process runs too
    }

    def command(*arguments: str, status: int = 0, api_key: str = key) -> None:
        nonlocal said
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", *arguments],
            env=environment | {"LIVEPEER_API_KEY": api_key},
            capture_output=True,
            text=True,
            timeout=180,
        )
        said += done.stdout + done.stderr
        assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]

    with Watcher() as watcher:
        sim.fault("500", at=8)
        sim.fault("503", at=14, times=None)
        command("sync", status=1)
        sim.clear_faults()
        command("sync")
        command("sync", status=1, api_key=wrong)  # the server's 401 echoes it
        command("doctor")
        command("doctor", status=1, api_key=wrong)
        for form in ("json", "csv", "table"):
            command("query", "from tasks", "--format", form)
        for table in ("quarantine", "drift", "failure_signatures", "attempt_errors"):
            command("query", f"from {table}", "--format", "json")
        command("status", "--json")
        command("verify")
        command("verify", "--landing")
        command("refresh", *sorted(sim.ids())[:5])

    assert len(set(planter.secrets.values())) >= 30
    finder = Finder(planter.secrets)
    assert len(finder.written) == len(finder.long)
    # It does find them where they are: in what the server sends.
    sent = "\n".join(row.body.decode() for row in sim._listed("default"))
    kinds = finder.kinds_in(sent)
    assert len(kinds) >= len(set(planter.secrets.values())) - 3
    planted = sum(secret in sent for secret in planter.secrets)  # another may have taken the place of one
    assert planted > len(planter.secrets) / 2
    searched, leaks = 0, {}
    for place, text in itertools.chain(
        [("printed", said), *(("arguments", each) for each in watcher.arguments)], texts_under(home)
    ):
        searched += len(text)
        if found := finder.kinds_in(text):
            leaks[place] = found
    assert leaks == {}, f"seed {seed}"
    assert any("pipelines.cli" in arguments for arguments in watcher.arguments)
    assert said.count("redacted-") > TASKS
    figure("secrets planted", planted, f"of {len(kinds)} kinds in {TASKS} tasks: none found")
    figure("megabytes searched for them", searched / 1e6, "home, Parquet, databases, logs, output, process arguments")
