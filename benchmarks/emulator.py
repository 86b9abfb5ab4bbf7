"""Measure the emulator: until it is ready, for a request to the control plane, and for the walk through the bare SDK.

    python -m benchmarks.emulator [--seconds 5] [--connections 8] [--walk]

Requests are GETs of one compute over connections that stay open, sent by a process of its own: straight to the port of the
control plane, and through the proxy, as clients are led. A busy machine slows all of it; the processor time of the
emulator, which is told beside it, hardly changes.
"""

from __future__ import annotations

import argparse
import http.client
import multiprocessing
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from testing.support.emulator_process import EmulatorProcess, emulator

from azureml_emulator.process_commands import MARK

READY_SECONDS, REQUESTS_A_SECOND, WALK_SECONDS = 3.0, 300.0, 60.0
HOST = "management.azure.com"
WALK = Path(__file__).parents[1] / "examples" / "azure_ml_walk.py"
PATH = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg/providers/Microsoft.MachineLearningServices"
    "/workspaces/ws/computes/cpu-cluster?api-version=2024-04-01"
)


def ask(port: int, tunnel: bool, trusted: str, token: str, seconds: float, connections: int) -> float:
    """Return the requests a second that get a response over some connections."""
    context = ssl.create_default_context(cafile=trusted)
    counts: list[int] = []
    headers = {"Authorization": f"Bearer {token}", "Host": HOST}

    def client() -> None:
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=30)
        if tunnel:
            connection.set_tunnel(HOST, 443)
        count, until = 0, time.monotonic() + seconds
        while time.monotonic() < until:
            connection.request("GET", PATH, headers=headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"the control plane answers {answer.status}")
            count += 1
        connection.close()
        counts.append(count)

    threads = [threading.Thread(target=client) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(counts) != connections:
        raise RuntimeError("a client has failed")
    return sum(counts) / seconds


def rate(running: EmulatorProcess, port: int, tunnel: bool, seconds: float, connections: int) -> float:
    """Measure the same from a separate process."""
    trusted = running.variables["REQUESTS_CA_BUNDLE"]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return float(pool.apply(ask, (port, tunnel, trusted, running.token(), seconds, connections)))


def control_plane_port(running: EmulatorProcess) -> int:
    """Return the port of the control plane itself: the emulator's port that has a certificate and knows the path."""
    import psutil

    context = ssl.create_default_context(cafile=running.variables["REQUESTS_CA_BUNDLE"])
    for found in psutil.Process(running.process.pid).net_connections("tcp"):
        if found.status != psutil.CONN_LISTEN or found.laddr.port == running.port:
            continue
        connection = http.client.HTTPSConnection("127.0.0.1", found.laddr.port, context=context, timeout=5)
        try:
            connection.request("GET", PATH, headers={"Host": HOST})
            if connection.getresponse().status == 401:
                return int(found.laddr.port)
        except (OSError, http.client.HTTPException):  # the page, which speaks plain HTTP
            continue
        finally:
            connection.close()
    raise RuntimeError("the control plane was not found")


def processor_seconds(running: EmulatorProcess) -> float:
    """Return what the emulator's own process has used so far."""
    import psutil

    used = psutil.Process(running.process.pid).cpu_times()
    return float(used.user + used.system)


def walk(running: EmulatorProcess) -> tuple[float, float]:
    """Return the seconds of the walk, and those of its job."""
    started = time.monotonic()
    variables = {name: value for name, value in running.environment.items() if name != MARK}
    done = subprocess.run([sys.executable, str(WALK)], env=variables, capture_output=True, text=True, check=True)
    whole = time.monotonic() - started
    (job,) = [line for line in done.stdout.splitlines() if line.startswith("job ") and "completed after" in line]
    return whole, float(job.split("completed after ")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--walk", action="store_true", help="also run the walk through the SDK")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for what in ("first start", "start with a state"):
            started = time.monotonic()
            with emulator(Path(folder, "state")) as running:
                print(f"{what}: {time.monotonic() - started:.1f} s until ready (at most {READY_SECONDS:g} s)")
        with emulator(Path(folder, "state")) as running:
            direct = control_plane_port(running)
            for name, port, tunnel in (("control plane", direct, False), ("through the proxy", running.port, True)):
                before = processor_seconds(running)
                found = rate(running, port, tunnel, options.seconds, options.connections)
                each = (processor_seconds(running) - before) / (found * options.seconds) * 1000
                print(
                    f"{name}: {found:.0f} requests/s (at least {REQUESTS_A_SECOND:g}), {each:.1f} ms of processor each"
                )
            if options.walk:
                whole, job = walk(running)
                print(f"walk: {whole:.1f} s, {whole - job:.1f} s beside the job (at most {WALK_SECONDS:g} s)")


if __name__ == "__main__":
    main()
