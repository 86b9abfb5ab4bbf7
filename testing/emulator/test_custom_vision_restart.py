"""Custom Vision reached by variables alone, and what it has kept after all of the emulator was killed at once."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from testing.support.emulator_process import EmulatorProcess, emulator
from testing.support.jobs import until
from testing.support.vision_accounts import picture

pytestmark = pytest.mark.slow
GROUP = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg"
ACCOUNTS = f"{GROUP}/providers/Microsoft.CognitiveServices/accounts"


def make(running: EmulatorProcess, name: str, kind: str) -> None:
    properties = {"customSubDomainName": name, "disableLocalAuth": True}
    body = {"kind": kind, "sku": {"name": "S0"}, "location": "westeurope", "properties": properties}
    assert running.call("PUT", f"{ACCOUNTS}/{name}", body).status_code == 201


def call(running: EmulatorProcess, name: str, method: str, path: str, **options: Any) -> Any:
    """A call to an account with a token, as often as it is told to come back later."""
    api = "v3.1/prediction" if name == "cv-predict" else "v3.3/training"
    headers = {"Authorization": f"Bearer {running.token('https://cognitiveservices.azure.com')}"}
    with running.session() as session:
        url = f"https://{name}.cognitiveservices.azure.com/customvision/{api}{path}"
        found: Any = None

        def answered() -> bool:
            nonlocal found
            found = session.request(method, url, headers=headers, timeout=60, **options)
            return bool(found.status_code != 429)

        until(answered, 60)
    assert found.ok, found.text
    return found.json() if found.content else None


@pytest.mark.timeout(300)
def test_what_was_learnt_is_there_again_and_what_was_being_learnt_goes_on(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with emulator(state) as first:
        make(first, "cv-train", "CustomVision.Training")
        make(first, "cv-predict", "CustomVision.Prediction")
        query = {"name": "stripes", "classificationType": "Multiclass"}
        project = call(first, "cv-train", "POST", "/projects", params=query)["id"]
        start = f"/projects/{project}"
        for kind in ("across", "down"):
            tag = call(first, "cv-train", "POST", f"{start}/tags", params={"name": kind})["id"]
            files = [("imageData", (f"{number}.jpg", picture(kind, number))) for number in range(30)]
            call(first, "cv-train", "POST", f"{start}/images", params={"tagIds": tag}, files=files)
        iteration = call(first, "cv-train", "POST", f"{start}/train")["id"]
        for process in (first.process.pid, *(item.pid for item in first.descendants())):
            psutil.Process(process).send_signal(signal.SIGKILL)
        first.process.wait()
    with emulator(state) as second:
        one = f"{start}/iterations/{iteration}"
        until(lambda: call(second, "cv-train", "GET", one)["status"] == "Completed", 100)
        assert call(second, "cv-train", "GET", f"{start}/images/tagged/count") == 60
        target = {"publishName": "live", "predictionId": f"{ACCOUNTS}/cv-predict"}
        call(second, "cv-train", "POST", f"{one}/publish", params=target)
        path = f"/{project}/classify/iterations/live/image"
        found = call(second, "cv-predict", "POST", path, files={"imageData": picture("down", 77)})
        assert found["predictions"][0]["tagName"] == "down"
        (image,) = call(second, "cv-train", "GET", f"{start}/images", params={"take": 1})
        # An image by its address, which leads to the emulator's own host.
        link = {"url": image["originalImageUri"]}
        found = call(second, "cv-predict", "POST", f"/{project}/classify/iterations/live/url/nostore", json=link)
        assert found["predictions"][0]["tagName"] == image["tags"][0]["tagName"]
        assert second.stop() == 0
        assert not second.descendants()
