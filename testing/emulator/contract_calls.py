"""Make the calls of the contract, and write what came of it as tables into the emulator's README.

The tables are brought up to date by::

    python -m testing.emulator.contract_calls
"""

from __future__ import annotations

import base64
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from testing.emulator.rest_comparison import ContractCall, Difference, contract, covered
from testing.support.rehearsal import Rehearsal
from testing.support.vision_accounts import picture

import azureml_emulator
from azureml_emulator.container_groups.registry_images import RegistryImage
from azureml_emulator.custom_vision.vision_access import AUDIENCE
from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.identity.loopback_tokens import token
from azureml_emulator.loopback import start_cloud
from azureml_emulator.storage.azurite import Azurite

README = Path(azureml_emulator.__file__).parent / "README.md"
_MARKED = re.compile(r"(?<=<!-- contract -->\n).*(?=<!-- end of contract -->)", re.DOTALL)


@dataclass
class Answer:
    """What the emulator has answered."""

    status: int
    headers: dict[str, str]
    body: Any

    def differences(self, call: ContractCall) -> list[Difference]:
        """How it differs from the example."""
        return call.differences(self.status, self.headers, self.body)


class Caller:
    """Makes calls to the emulator over HTTPS."""

    def __init__(self, cloud: EmulatedCloud, authority: Path) -> None:
        self._cloud = cloud
        self._session = requests.Session()
        self._session.trust_env, self._session.verify = False, str(authority)
        self._kept: dict[str, str] = {}

    def make(self, call: ContractCall) -> Answer:
        """Make a call, and those like it at other addresses, which fill lists; wait for what takes time."""
        answer = self._send(call, call.entry["path"])
        deadline = time.monotonic() + 100
        while any(answer.body.get(name) != value for name, value in call.entry.get("until", {}).items()):
            assert time.monotonic() < deadline, answer
            time.sleep(0.1)
            answer = self._send(call, call.entry["path"])
        for name, path in call.entry.get("keep", {}).items():
            found = answer.body
            for part in path.split("."):
                found = found[int(part) if part.isdigit() else part]
            self._kept[name] = found
        for path in call.entry.get("again", ()):
            another = self._send(call, path)
            assert another.status < 300, f"{path}: {another.body}"
        return answer

    def _send(self, call: ContractCall, path: str) -> Answer:
        cloud = self._cloud
        entry, files = call.entry, None
        if entry["folder"] == "keyvault":  # wants tokens of its own, for a domain above its host
            audience = cloud.url.replace("//127.0.0.1", "//0.0.1")
        else:
            audience = AUDIENCE if "data-plane" in entry["folder"] else cloud.url
        if kind := entry.get("pictures"):
            files = [("imageData", (f"{number}.jpg", picture(kind, number))) for number in range(6)]
        found = self._session.request(
            entry["method"],
            f"{cloud.url}{entry.get('prefix', '')}{self._filled(path)}",
            params={"api-version": entry["version"]} if "data-plane" not in entry["folder"] else None,
            headers={"Authorization": f"Bearer {token(audience)}"},
            json=None if files else self._filled(call.body()),
            files=files,
            timeout=60,
        )
        headers = {name.lower(): value for name, value in found.headers.items()}
        if found.ok and "azure-asyncoperation" in headers:
            self._wait(headers["azure-asyncoperation"])
        body = found.json() if found.content else None
        return Answer(found.status_code, headers, {"value": body} if isinstance(body, list) else body)

    def _filled(self, part: Any) -> Any:
        """A path or a body with what was kept from earlier answers, and with a picture where one is wanted."""
        if isinstance(part, dict):
            return {key: self._filled(value) for key, value in part.items()}
        if isinstance(part, list):
            return [self._filled(item) for item in part]
        if part == "picture":
            return base64.b64encode(picture("down", 99)).decode()
        for name, value in self._kept.items():
            part = part.replace(f"{{{name}}}", value) if isinstance(part, str) else part
        return part

    def _wait(self, operation: str) -> None:
        for _ in range(1000):
            headers = {"Authorization": f"Bearer {token(self._cloud.url)}"}
            status = self._session.get(operation, headers=headers, timeout=60).json()
            if status["status"] != "InProgress":
                assert status["status"] == "Succeeded", status
                return
        raise TimeoutError(f"{operation} goes on")

    def close(self) -> None:
        """End its connections."""
        self._session.close()


def make_calls(cloud: EmulatedCloud, authority: Path) -> dict[str, Answer]:
    """Make all calls, one after the other, to an emulator that starts over for them: with lists of one item a page."""
    cloud.reset()
    cloud.executor = Rehearsal(held=True)
    cloud.page_size = 1
    cloud.vision.limits["S0"].calls = None
    cloud.add_workspace("second")
    cloud.add_registry("second")
    cloud.groups.images["text"] = RegistryImage(command=("sleep", "60"))
    caller = Caller(cloud, authority)
    try:
        return {call.name: caller.make(call) for call in contract()}
    finally:
        caller.close()


def tables(answers: dict[str, Answer]) -> str:
    """What was compared, as Markdown: a row for each route, and a row for each difference that is accepted."""
    rows: dict[tuple[str, ...], list[Any]] = {}
    reasons: dict[tuple[str, str, str], None] = {}
    for call in contract():
        answer, entry = answers[call.name], call.entry
        found = answer.differences(call)
        path = re.sub(r"\?.*| with .*", "", call.name.partition(" ")[2])
        title, read = entry["title"].split(" with ")[0], entry.get("published", entry["version"])
        key = (str(title), path, str(entry["version"]), str(read))
        row = rows.setdefault(key, [{}, 0, 0])
        row[0][entry["method"]] = None
        row[1] += len(call.compared(answer.status)) + len(call.sent_fields())
        row[2] += len(found)
        for known, reason in call.accepted.items():
            if any(covered(item.path, {known: ""}) for item in found):
                reasons[key[0], known, reason] = None
    lines = [
        "| Resources | Route | Version of the SDK | Version of the example | Fields | Differences |",
        "|---|---|---|---|---|---|",
    ]
    for (title, path, sent, read), (methods, fields, different) in rows.items():
        lines.append(f"| {title} | {' '.join(methods)} `{path}` | {sent} | {read} | {fields} | {different or ''} |")
    fields, different = (sum(row[number] for row in rows.values()) for number in (1, 2))
    total = f"{len(contract())} calls, {fields} fields, {different} differences:"
    second = ["| Resources | Difference | Why |", "|---|---|---|"]
    second += [f"| {title} | `{path}` | {reason} |" for title, path, reason in reasons]
    return f"{total}\n\n" + "\n".join(lines) + "\n\n" + "\n".join(second) + "\n"


def written_tables() -> str:
    """The tables as they stand in the README."""
    found = _MARKED.search(README.read_text(encoding="utf-8"))
    assert found is not None, "the README of the emulator has no place for the tables"
    return found[0].strip() + "\n"


def main() -> None:
    """Bring the README up to date."""
    with tempfile.TemporaryDirectory() as folder, Azurite() as azurite, start_cloud(azurite, Path(folder)) as started:
        text = tables(make_calls(*started))
    README.write_text(_MARKED.sub(lambda _: f"\n{text}\n", README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
