"""How fast are events taken? `make bench` prints it beside a plain server of the same kind, at the same rate.

    archive   task-archive listen: signature, redaction, and each event on the disk before it is answered
    plain     Starlette and uvicorn: the body is read and appended to a file, nothing is checked, synced or redacted

Deliveries come as the server sends them, each on a connection of its own, whether the one before was answered or not.
"""

import asyncio
import hashlib
import hmac
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RATE = int(sys.argv[1]) if len(sys.argv) > 1 else 500  # deliveries a second
SECONDS = 10
WARM_UP = 100  # deliveries that are not counted
SHARED = "hook-shared-secret"
FIXTURE = Path(__file__).parent / "fixtures" / "livepeer" / "webhooks.jsonl"

PLAIN = """
import os, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
file = open(os.environ["TASK_ARCHIVE_HOME"] + "/events", "ab")
async def deliver(request):
    file.write(await request.body())
    return JSONResponse({"status": "written"})
config = uvicorn.Config(Starlette(routes=[Route("/{account}", deliver, methods=["POST"])]), access_log=False)
config.load()
import socket
listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
print("listening on", f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
uvicorn.Server(config).run(sockets=[listening])
"""


async def deliver(port: int, body: bytes, signature: str) -> float:
    """Seconds until the answer; raises where it is not 200."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /default HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Livepeer-Signature: {signature}\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    if not answer.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"answered {answer[:60]!r}")
    return time.perf_counter() - began


def delivery(recorded: list[str], number: int) -> tuple[bytes, str]:
    event = json.loads(recorded[number % len(recorded)])
    event["timestamp"] = time.time_ns() // 1_000_000
    event["payload"]["task"]["snapshot"]["id"] = str(number)
    body = json.dumps(event).encode()
    return body, f"t={event['timestamp']},v1={hmac.new(SHARED.encode(), body, hashlib.sha256).hexdigest()}"


async def offer(port: int, recorded: list[str]) -> list[float]:
    """The seconds of each delivery, at the rate, in order of length."""
    sent: list[asyncio.Task[float]] = []
    for number in range(WARM_UP):
        await deliver(port, *delivery(recorded, number))
    began = time.perf_counter()
    for number in range(RATE * SECONDS):
        await asyncio.sleep(max(0, began + number / RATE - time.perf_counter()))
        sent.append(asyncio.create_task(deliver(port, *delivery(recorded, WARM_UP + number))))
    return sorted(await asyncio.gather(*sent))


def measure(command: list[str], recorded: list[str]) -> tuple[list[float], float, float]:
    """The seconds of deliveries, the server's CPU seconds, and its peak memory in MiB."""
    with tempfile.TemporaryDirectory() as home:
        keys = {"LIVEPEER_API_KEY": "bench-key", "LIVEPEER_WEBHOOK_SECRET": SHARED}
        environment = os.environ | keys | {"TASK_ARCHIVE_HOME": home}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().split()[2].rpartition(":")[2])
            seconds = asyncio.run(offer(port, recorded))
        finally:
            process.terminate()
            _, _, usage = os.wait4(process.pid, 0)
        return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    recorded = [json.loads(line)["body"] for line in FIXTURE.read_text("utf-8").splitlines()]
    commands = {
        "archive": [sys.executable, "-m", "pipelines.cli", "listen", "--port", "0"],
        "plain": [sys.executable, "-c", PLAIN],
    }
    print(f"\n{RATE} events/s for {SECONDS} s, the sender on the same {os.cpu_count()} cores\n")
    print(f"{'':8} {'median ms':>10} {'p99 ms':>8} {'CPU s':>7} {'peak MiB':>9}")
    for name, command in commands.items():
        seconds, cpu_seconds, peak_mib = measure(command, recorded)
        median, p99 = seconds[len(seconds) // 2] * 1000, seconds[len(seconds) * 99 // 100] * 1000
        print(f"{name:8} {median:10.1f} {p99:8.1f} {cpu_seconds:7.1f} {peak_mib:9,.0f}")


if __name__ == "__main__":
    main()
