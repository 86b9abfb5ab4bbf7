"""The pages of the emulator, as a browser gets them: without a token, read-only, and for this machine only."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from testing.support.rehearsal import Rehearsal
from testing.support.shown_cloud import fill
from testing.support.submissions import submit

from azureml_emulator.emulated_cloud import EmulatedCloud
from azureml_emulator.jobs.job_executor import JobExecution, JobOrder
from azureml_emulator.jobs.reported_states import ReportedJob
from azureml_emulator.pages.job_graph import waits_for
from azureml_emulator.pages.page_facts import TAIL_BYTES
from azureml_emulator.pages.page_text import duration, moment, size

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


def get(cloud: EmulatedCloud, path: str, status: int = 200, **options: Any) -> str:
    response = requests.get(cloud.url + path, timeout=30, **options)
    assert response.status_code == status, response.text
    assert "default-src 'none'" in response.headers.get("Content-Security-Policy", "") or status == 403
    return response.text


def words(page: str) -> str:
    """What is to be read on a page."""
    body = re.sub(r"<head>.*?</head>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def links(page: str) -> list[str]:
    return re.findall(r'href="([^"]+)"', page)


class Quick:
    """Runs nothing: jobs end at once, with the log that it is given."""

    def __init__(self, log: Path | None = None) -> None:
        self._log = log

    def start(self, order: JobOrder) -> JobExecution:
        return _Ended(self._log)


class _Ended:
    def __init__(self, log: Path | None) -> None:
        self._log = log

    def state(self) -> ReportedJob:
        return ReportedJob("Completed", logs={"user_logs/std_log.txt": self._log} if self._log else {})

    def preempt(self) -> None:
        raise NotImplementedError

    def cancel(self) -> None:
        """Nothing runs."""

    def metrics(self, step: str) -> dict[str, float]:
        return {}


def test_an_empty_emulator_has_pages(cloud: EmulatedCloud) -> None:
    page = get(cloud, "/")
    assert links(page)[-1] == "/workspaces/ws"
    assert "Registries shared" in words(page)
    text = words(get(cloud, "/workspaces/ws"))
    for sentence in ("No job has been submitted yet", "There is no endpoint", "No model has been registered yet"):
        assert sentence in text
    assert "cpu-cluster Steady AmlCompute Standard_DS3_v2 0 of 4" in text
    cloud.store.clear()
    assert "There is no workspace yet" in words(get(cloud, "/"))
    assert cloud.seen() == []  # a look leaves no trace


def test_a_job_is_shown_with_its_graph_and_logs(client: MLClient, cloud: EmulatedCloud, project: Path) -> None:
    cloud.executor = held = Rehearsal(failing=("fit",), held=True)
    job = submit(client, project / "pipeline.yml")
    assert cloud.jobs.find("job").status in ("Preparing", "Running")
    assert requests.get(str(job.studio_url), timeout=30).url == f"{cloud.url}/workspaces/ws/jobs/job"
    held.release()
    record = cloud.jobs.find("job").wait()
    page = get(cloud, "/workspaces/ws/jobs/job")
    waiting = waits_for(record.resource.properties)
    assert waiting["fit"] == ("prep",)
    assert page.count("<rect") == len(waiting)
    assert page.count("<path") == sum(map(len, waiting.values())) > 0  # none implies another here
    text = words(page)
    assert "fit Failed prep" in text  # the step, its state, and what it comes after
    assert "fit ended with exit code 1" in text
    assert "step fit failed" in text
    assert "/workspaces/ws/jobs/job/log" in links(page)
    (log,) = [link for link in links(page) if link.endswith("/steps/prep/log")]
    assert "this is prep" in words(get(cloud, log))
    assert "rehearsing job" in words(get(cloud, "/workspaces/ws/jobs/job/log"))


def test_of_a_long_log_the_end_is_shown(client: MLClient, cloud: EmulatedCloud, project: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"".join(b"line %07d <b>&amp;\xff\n" % number for number in range(200_000)))
    cloud.executor = Quick(log)
    submit(client, project / "command.yml")
    cloud.jobs.find("job").wait()
    page = get(cloud, "/workspaces/ws/jobs/job/log")
    assert len(page) < 3 * TAIL_BYTES
    assert "line 0199999 &lt;b&gt;&amp;amp;\ufffd\n</pre>" in page
    assert "line 0000000" not in page
    assert "The end of 4.6 MB." in words(page)
    first = re.search(r"<pre[^>]*>(.*)", page)
    assert first is not None
    assert first[1].startswith("line 0")  # no half line


@pytest.mark.slow
def test_many_jobs_come_in_pages(cloud: EmulatedCloud) -> None:
    cloud.executor = Quick()
    environment = {"properties": {"image": "python:3.11"}}
    cloud.store.put(f"{cloud.path()}/environments/e/versions/1", environment)
    body = {"jobType": "Command", "command": "true", "environmentId": f"{cloud.path()}/environments/e/versions/1"}
    for number in range(500):
        cloud.jobs.submit(cloud.path(), f"job-{number:03}", {"properties": dict(body)})
    first, last = get(cloud, "/workspaces/ws"), get(cloud, "/workspaces/ws?page=10")
    assert "Jobs 500" in words(first)
    assert (first.count("/jobs/job-"), last.count("/jobs/job-")) == (50, 50)
    assert "/jobs/job-499" in first
    assert "/jobs/job-000" in last
    assert links(first).count("?page=2") == 1
    assert "Page 10 of 10" in words(last)
    for page in ("0", "11", "x", "-1", "9" * 30, "²"):
        assert "has no page" in words(get(cloud, f"/workspaces/ws?page={page}", 404))


def test_endpoints_models_and_computes_are_shown(client: MLClient, cloud: EmulatedCloud) -> None:
    from azure.ai.ml.entities import ComputeInstance

    endpoint = f"{cloud.path()}/onlineEndpoints/ask"
    traffic = {"authMode": "Key", "traffic": {"blue": 90, "green": 10}, "mirrorTraffic": {"green": 5}}
    cloud.store.put(endpoint, {"properties": {**traffic, "provisioningState": "Succeeded"}})
    for name in ("blue", "green"):
        model = f"{cloud.path()}/models/textile/versions/1"
        made = {"model": model, "instanceType": "Standard_DS3_v2", "provisioningState": "Succeeded"}
        cloud.store.put(f"{endpoint}/deployments/{name}", {"properties": made, "sku": {"capacity": 2}})
    cloud.store.put(f"{cloud.path()}/models/textile/versions/1", {"properties": {"tags": {"<b>": "&"}}})
    client.compute.begin_create_or_update(ComputeInstance(name="dev", size="Standard_DS3_v2")).result()
    text = words(get(cloud, "/workspaces/ws"))
    assert "ask Succeeded online blue 90 %, green 10 %" in text
    assert "textile 1" in text
    assert "<b>=&" in text
    assert "dev Running ComputeInstance Standard_DS3_v2" in text
    text = words(get(cloud, "/workspaces/ws/endpoints/online/ask"))
    assert "green Succeeded 10 %, and a copy of 5 % textile:1 2 × Standard_DS3_v2" in text
    assert client.online_endpoints.get_keys("ask").primary_key not in text
    assert "export DOCKER_HOST=unix://" in get(cloud, "/workspaces/ws/computes/dev")
    assert "Docker" not in get(cloud, "/workspaces/ws/computes/cpu-cluster")


@pytest.mark.parametrize(
    "path",
    [
        "/workspaces/no",
        "/workspaces/",
        "/workspaces/ws/nothing",
        "/workspaces/ws/jobs/<script>",
        "/workspaces/ws/jobs/no/log",
        "/workspaces/ws/endpoints/online/no",
        "/workspaces/ws/endpoints/odd/no",
        "/workspaces/ws/computes/no",
        "/workspaces/no/jobs/no",
    ],
)
def test_a_name_that_is_unknown_is_said(cloud: EmulatedCloud, path: str) -> None:
    page = get(cloud, path, 404)
    assert re.search("does not exist|No page exists|has no ", words(page))
    assert "<script>" not in page


def test_names_need_no_care(cloud: EmulatedCloud) -> None:
    cloud.add_workspace("a b&c")
    page = get(cloud, "/")
    assert "/workspaces/a%20b%26c" in links(page)
    assert "No job has been submitted" in words(get(cloud, "/workspaces/a%20b%26c"))


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "management.azure.com", "10.0.0.1:443"])
def test_a_foreign_host_is_refused(cloud: EmulatedCloud, host: str) -> None:
    for path in ("/", "/workspaces/ws", "/pages.css"):
        assert "for this machine only" in get(cloud, path, 403, headers={"Host": host})
    assert "Workspaces" in get(cloud, "/", headers={"Host": "localhost:1"})


def test_the_pages_can_only_be_read(cloud: EmulatedCloud) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for path in ("/", "/workspaces/ws", "/workspaces/ws/jobs/a"):
            assert requests.request(method, cloud.url + path, timeout=30).status_code == 405
    cloud.faults.throttle("workspaces", times=1)
    get(cloud, "/workspaces/ws")
    assert cloud.faults.pending == 1  # a look takes no fault away
    assert "<script" not in get(cloud, "/workspaces/ws")
    assert not re.search(r"https?://(?!127\.0\.0\.1)", get(cloud, "/workspaces/ws") + get(cloud, "/pages.css"))


def test_a_graph_that_goes_round_is_drawn(cloud: EmulatedCloud) -> None:
    cloud.executor = Quick()
    steps = {
        name: {"inputs": {"in": {"job_input_type": "literal", "value": "${{parent.jobs." + other + ".outputs.out}}"}}}
        for name, other in (("a", "b"), ("b", "a"))
    }
    cloud.jobs.submit(cloud.path(), "round", {"properties": {"jobType": "Pipeline", "jobs": steps}})
    assert get(cloud, "/workspaces/ws/jobs/round").count("<rect") == 2


def test_lines_that_others_imply_are_left_out(cloud: EmulatedCloud, tmp_path: Path) -> None:
    fill(cloud, tmp_path)
    page = get(cloud, "/workspaces/ws/jobs/loud-sun-1")
    assert page.count("<path") == 4  # to inspect and train, from train to evaluate, and on to the last
    assert "prepare, train" in words(page)  # what evaluate waits for


def test_moments_durations_and_sizes() -> None:
    assert moment("2026-11-30T08:00:00.123Z") == "2026-11-30 08:00:00"
    assert moment("") == moment("nonsense") == "–"
    start = "2026-11-30T08:00:00+00:00"
    assert duration(start, "2026-11-30T08:00:01.5+00:00") == "1.5 s"
    assert duration(start, "2026-11-30T08:02:05Z") == "2 min 5 s"
    assert duration(start, "2026-11-30T10:02:05") == "2 h 2 min"
    assert duration("", "") == "–"
    assert [size(number) for number in (999, 1500, 4_600_000)] == ["999 B", "1.5 kB", "4.6 MB"]
