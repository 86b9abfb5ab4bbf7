"""The scoring API: every form of request gives the same answer, and every mistake its own code."""

from __future__ import annotations

import base64
import gzip
import http.client
import io
import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from testing.support.bundles import make_bundle
from testing.support.prepared_data import COLOURS
from testing.support.scoring_servers import in_process

from vision_mlops.config.workload import Serving
from vision_mlops.core.errors import BundleError
from vision_mlops.evaluation.metrics_file import write_evaluation
from vision_mlops.model.bundle import EVALUATION, bundle_id, read_bundle, write_bundle
from vision_mlops.serving import responses
from vision_mlops.serving.access_keys import AccessKeys


def encoded(colour: tuple[int, int, int] = COLOURS["green"], size: int = 40, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(stream, kind)
    return stream.getvalue()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b")


@pytest.fixture(scope="module")
def client(bundle: Path) -> Iterator[httpx.Client]:
    serving = Serving(max_body_mb=1, max_batch=3)
    with in_process(bundle, version="7", serving=serving) as url, httpx.Client(base_url=url) as client:
        yield client


PNG = {"Content-Type": "image/png"}


def test_all_forms_of_a_request_agree(client: httpx.Client) -> None:
    image = encoded()
    text = base64.b64encode(image).decode()
    answers = [
        client.post("/score", content=image, headers=PNG).json(),
        client.post("/score", content=image, headers={"Content-Type": "application/octet-stream"}).json(),
        client.post("/score", files={"image": ("a.png", image, "image/png")}).json(),
        client.post("/score", json={"image": text}).json(),
        client.post("/score", json={"image": f"data:image/png;base64,{text}"}).json(),
        client.post("/score", json={"images": [text]}).json()["results"][0],
    ]
    assert answers[0]["predictions"][0]["label"] == "green"
    assert answers[0]["model"]["name"] == "colours"
    assert answers[0]["model"]["version"] == "7"
    assert answers[0]["timing"]["total_ms"] > 0
    assert all(answer["predictions"] == answers[0]["predictions"] for answer in answers)


def test_batches_keep_their_order(client: httpx.Client) -> None:
    images = [base64.b64encode(encoded(colour)).decode() for colour in COLOURS.values()]
    results = client.post("/score?top_k=1", json={"images": images}).json()["results"]
    assert [result["predictions"][0]["label"] for result in results] == list(COLOURS)
    assert all(len(result["predictions"]) == 1 for result in results)


def test_the_total_covers_all_groups_of_a_batch(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "_AT_ONCE", 1)
    text = base64.b64encode(encoded(size=900)).decode()
    started = time.perf_counter()
    timing = client.post("/score", json={"images": [text] * 3}).json()["timing"]
    wall = (time.perf_counter() - started) * 1000
    assert timing["decode_ms"] + timing["inference_ms"] <= timing["total_ms"] + 0.002
    assert timing["total_ms"] <= wall


def test_heat_map_is_a_picture_of_the_networks_input(client: httpx.Client) -> None:
    answer = client.post("/score?explain=true", content=encoded(), headers=PNG).json()
    assert Image.open(io.BytesIO(base64.b64decode(answer["heat_map"]))).size == (32, 32)
    assert "heat_map" not in client.post("/score", content=encoded(), headers=PNG).json()


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "code"),
    [
        ("/score", b"", "image/png", 400, "empty"),
        ("/score", b"{", "application/json", 400, "bad_json"),
        ("/score", b"[" * 100_000, "application/json", 400, "bad_json"),
        ("/score", b'{"picture": 1}', "application/json", 400, "bad_json"),
        ("/score", b'{"image": "***"}', "application/json", 400, "bad_base64"),
        ("/score", b'{"images": []}', "application/json", 400, "empty"),
        ("/score", b"x", "multipart/form-data", 400, "bad_form"),
        ("/score", b"x" * (2**20 + 1), "image/png", 413, "body_too_large"),
        ("/score", b"hello", "text/plain", 415, "unsupported_media_type"),
        ("/score", b"not an image", "image/png", 415, "not_an_image"),
        ("/score", encoded(size=200)[:-60], "image/png", 422, "truncated"),
        ("/score?top_k=0", encoded(), "image/png", 422, "bad_query"),
        ("/score?top_k=4", encoded(), "image/png", 422, "bad_query"),
        ("/score?explain=perhaps", encoded(), "image/png", 422, "bad_query"),
        ("/nothing", b"", "image/png", 404, "not_found"),
    ],
)
def test_mistakes(client: httpx.Client, path: str, body: bytes, kind: str, status: int, code: str) -> None:
    answer = client.post(path, content=body, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["message"]


def test_wrong_method_and_large_batch(client: httpx.Client) -> None:
    assert client.get("/score").json()["error"]["code"] == "method_not_allowed"
    text = base64.b64encode(encoded()).decode()
    assert client.post("/score", json={"images": [text] * 4}).json()["error"]["code"] == "batch_too_large"


def test_a_body_without_a_length_is_cut_off_at_the_limit(client: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 65536

    answer = client.post("/score", content=endless(), headers=PNG)
    assert answer.status_code == 413


def test_decompression_bomb_is_refused(client: httpx.Client) -> None:
    stream = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(stream, "PNG")
    answer = client.post("/score", content=stream.getvalue(), headers=PNG)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "image_too_large")


@pytest.mark.parametrize("header", [{"X-Api-Key": "secret"}, {"Authorization": "Bearer secret"}])
def test_key(bundle: Path, header: dict[str, str]) -> None:
    with in_process(bundle, keys=AccessKeys(["secret"])) as url, httpx.Client(base_url=url) as client:
        assert client.post("/score", content=encoded(), headers=PNG).status_code == 401
        foreign = [(b"Content-Type", b"image/png"), (b"X-Api-Key", "sécret".encode("latin-1"))]
        assert client.post("/score", content=encoded(), headers=foreign).status_code == 401
        assert client.post("/score", content=encoded(), headers={**PNG, **header}).status_code == 200


def test_blanks_around_a_header_do_not_belong_to_its_value(bundle: Path) -> None:
    with in_process(bundle, keys=AccessKeys(["secret"])) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        connection.request("POST", "/score", encoded(), {**PNG, "X-Api-Key": " secret \t"})
        assert connection.getresponse().status == 200
        connection.close()


def test_a_wrong_key_is_not_answered_like_a_missing_one(bundle: Path) -> None:
    missing = "send the key in the header X-Api-Key or Authorization: Bearer"
    with in_process(bundle, keys=AccessKeys(["k"]), admin_key="a") as url, httpx.Client(base_url=url) as client:

        def told(path: str, **headers: str) -> str:
            answer = client.post(path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorised")
            assert answer.headers["www-authenticate"] == "Bearer"
            return str(answer.json()["error"]["message"])

        assert told("/score") == told("/admin/reload") == told("/score", X_Api_Key="") == missing
        wrong = "the key is wrong: what was sent is not a key of this server"
        assert told("/score", X_Api_Key="x") == told("/score", Authorization="Bearer x") == wrong
        assert told("/admin/reload", X_Api_Key="k").startswith(
            "the key is wrong: what was sent is not the server's MLOPS"
        )
        assert told("/score", Authorization="Basic eDp4") == f"the header Authorization contains no key: {missing}"


@pytest.mark.parametrize("name", ["textile@champion", "textile:3", "nothing-here", "", "a" * 5000, "a\0b"])
def test_a_reload_takes_folders_only_and_says_so(client: httpx.Client, bundle: Path, name: str) -> None:
    with in_process(bundle, admin_key="k") as url:
        answer = httpx.post(f"{url}/admin/reload", json={"bundle": name}, headers={"X-Api-Key": "k"})
    message = answer.json()["error"]["message"]
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bundle_refused")
    assert "only accepts a folder" in message
    reference = name if name.startswith("textile") else "NAME@champion"
    assert f"`mlops models path {reference}` prints" in message


def test_a_refused_reload_is_told_on_one_line_and_names_the_key(bundle: Path, tmp_path: Path) -> None:
    with in_process(bundle, admin_key="k") as url, httpx.Client(base_url=url, headers={"X-Api-Key": "k"}) as client:
        refused = client.post("/admin/reload", json={"bundle": str(tmp_path)})
        assert refused.status_code == 422
        assert "\n" not in refused.json()["error"]["message"]
        assert "->" not in refused.json()["error"]["message"]
        misspelt = client.post("/admin/reload", json={"Bundle": str(bundle)})
        assert (misspelt.status_code, misspelt.json()["error"]["code"]) == (422, "unknown_key")
        assert "'Bundle' in the JSON: did you mean 'bundle'?" in misspelt.json()["error"]["message"]
    with in_process(tmp_path) as url:
        answer = httpx.get(f"{url}/health/ready")
        assert answer.status_code == 503
        assert "\n" not in answer.json()["error"]["message"]


DESCRIBE = {"describe": True}


def test_a_model_describes_itself(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "b")
    probabilities = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5], [0.1, 0.1, 0.8]])
    before = read_bundle(folder)
    write_evaluation(folder, np.array([0, 1, 2]), probabilities, before.classes)
    bundle = write_bundle(folder, before.model_copy(update={"metrics": {"test_accuracy": 2 / 3}}))
    assert bundle_id(bundle) == bundle_id(before)
    assert EVALUATION in bundle.files
    serving = Serving(max_body_mb=3, max_batch=5)
    with in_process(folder, version="7", serving=serving) as url:
        answer = httpx.post(f"{url}/score", json=DESCRIBE).json()
        image = httpx.post(f"{url}/score", content=encoded(), headers=PNG).json()
        document = httpx.get(f"{url}/openapi.json").json()["components"]["schemas"]["Description"]["properties"]
    model = answer["model"]
    assert {key: model[key] for key in ("name", "version", "id")} == image["model"]
    assert (model["classes"], model["image_size"], model["resize"]) == (["blue", "green", "red"], 32, "squash")
    assert (model["backbone"], model["data_fingerprint"], model["quantization"]) == ("mean-colour", "generated", None)
    assert model["metrics"] == {"test_accuracy": 2 / 3}
    evaluation = model["evaluation"]
    assert (evaluation["split"], evaluation["images"], evaluation["accuracy"]) == ("test", 3, 2 / 3)
    assert evaluation["confusion_matrix"] == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert evaluation["reliability"][0] == {"confidence": 0.5, "accuracy": 0.0, "count": 1}
    assert answer["limits"] == {"body_bytes": 3 * 2**20, "images": 5}
    assert set(document) == set(answer)
    assert set(document["model"]["properties"]) == set(model)


def test_a_bundle_without_an_evaluation_says_so(client: httpx.Client) -> None:
    assert client.post("/score", json=DESCRIBE).json()["model"]["evaluation"] is None


def test_a_changed_evaluation_is_refused(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "b")
    write_evaluation(folder, np.array([0]), np.array([[0.9, 0.1, 0.0]]), ["blue", "green", "red"])
    write_bundle(folder, read_bundle(folder))
    content = json.loads((folder / EVALUATION).read_text())
    (folder / EVALUATION).write_text(json.dumps(content | {"accuracy": 0.5}))
    with pytest.raises(BundleError, match=r"evaluation\.json was changed"):
        read_bundle(folder)


def test_metrics_page_and_description(client: httpx.Client) -> None:
    client.post("/score", content=encoded(), headers=PNG)
    text = client.get("/metrics").text
    assert "scoring_ready 1.0" in text
    assert 'scoring_predictions_total{label="green"}' in text
    assert 'scoring_requests_total{code="200"}' in text
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/score", "/health/live", "/health/ready", "/metrics", "/admin/reload"}
    page = client.get("/").text
    assert "mlops app" in page
    assert "<style" not in page, "the design is that of the web frontend alone"


def test_request_id_is_echoed_without_what_could_forge_a_log_line(client: httpx.Client) -> None:
    assert client.get("/health/live", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert len(client.get("/health/live", headers={"X-Request-Id": "x" * 500}).headers["x-request-id"]) == 128


def test_a_tampered_bundle_never_gets_ready(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "b")
    with (folder / "model.onnx").open("ab") as stream:
        stream.write(b"x")
    with in_process(folder) as url, httpx.Client(base_url=url) as client:
        answer = client.get("/health/ready")
        assert answer.status_code == 503
        assert "model.onnx was changed" in answer.json()["error"]["message"]
        assert client.get("/health/live").status_code == 200
        assert client.post("/score", content=encoded(), headers=PNG).status_code == 503


ORIGIN = "https://inspection.example.com"
ASKING = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}


def shared(answer: httpx.Response) -> dict[str, str]:
    """The headers of an answer that concern other origins."""
    return {
        name: value for name, value in answer.headers.items() if name.startswith("access-control-") or name == "vary"
    }


def test_no_other_origin_may_read_answers_unless_it_is_named(client: httpx.Client) -> None:
    for answer in (
        client.get("/health/live", headers={"Origin": ORIGIN}),
        client.options("/score", headers=ASKING),
        client.post("/score", content=encoded(), headers={**PNG, "Origin": ORIGIN}),
    ):
        assert answer.is_success
        assert shared(answer) == {}


def test_a_named_origin_may_read_answers_and_errors_without_a_key_for_the_question(bundle: Path) -> None:
    serving = Serving(cors_origins=[ORIGIN, "http://localhost:3000"])
    with in_process(bundle, serving=serving, keys=AccessKeys(["k"])) as url, httpx.Client(base_url=url) as client:
        asked = client.options("/score", headers=ASKING)
        assert asked.status_code == 204
        assert asked.headers["access-control-allow-origin"] == ORIGIN
        assert asked.headers["access-control-allow-methods"] == "GET, POST"
        assert "x-api-key" in asked.headers["access-control-allow-headers"]
        for key, status in (("k", 200), ("wrong", 401)):
            headers = {**PNG, "Origin": ORIGIN, "X-Api-Key": key}
            answer = client.post("/score", content=encoded(), headers=headers)
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == ORIGIN
            assert answer.headers["vary"] == "origin"
            assert "access-control-allow-methods" not in answer.headers
        for other in ("https://example.com", "http://localhost", "null", f"{ORIGIN}.example.org"):
            assert shared(client.options("/score", headers={**ASKING, "Origin": other})) == {"vary": "origin"}
        assert shared(client.get("/health/live")) == {"vary": "origin"}
        assert shared(client.options("/admin/reload", headers=ASKING)) == {}


def test_every_origin_may_be_allowed(bundle: Path) -> None:
    with in_process(bundle, serving=Serving(cors_origins=["*"])) as url, httpx.Client(base_url=url) as client:
        assert client.options("/score", headers=ASKING).headers["access-control-allow-origin"] == "*"
        assert "vary" not in client.get("/health/live", headers={"Origin": ORIGIN}).headers


@pytest.mark.parametrize(
    "origin", ["example.com", "https://example.com/", "HTTPS://example.com", "https://a b", "https://*.example.com", ""]
)
def test_what_browsers_never_send_is_no_origin(origin: str) -> None:
    with pytest.raises(ValueError, match=r"must be an origin in lower case and without a path"):
        Serving(cors_origins=[origin])


def test_packed_bodies_are_taken_and_others_told_what_is(client: httpx.Client) -> None:
    packed = client.post("/score", content=gzip.compress(encoded()), headers={**PNG, "Content-Encoding": "gzip"})
    assert packed.json()["predictions"][0]["label"] == "green"
    refused = client.post("/score", content=encoded(), headers=[*PNG.items(), ("Content-Encoding", "br")])
    assert (refused.status_code, refused.headers["accept-encoding"]) == (415, "gzip, deflate")
    two_lines = [*PNG.items(), ("Content-Encoding", "deflate"), ("Content-Encoding", "gzip")]
    stacked = client.post("/score", content=gzip.compress(zlib.compress(encoded())), headers=two_lines)
    assert stacked.status_code == 200


def test_a_reload_in_one_process_keeps_the_classes_unless_told_otherwise(bundle: Path, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "other", classes=["blue", "green", "scarlet"])
    same = make_bundle(tmp_path / "same", swap=True)
    with in_process(bundle, admin_key="k") as url, httpx.Client(base_url=url, headers={"X-Api-Key": "k"}) as client:
        refused = client.post("/admin/reload", json={"bundle": str(other)})
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "other_classes")
        assert "without red and with the new scarlet" in refused.json()["error"]["message"]
        assert client.post("/admin/reload", json={"bundle": str(same)}).status_code == 200
        packed = gzip.compress(json.dumps({"bundle": str(other), "other_classes": True}).encode())
        assert client.post("/admin/reload", content=packed, headers={"Content-Encoding": "gzip"}).status_code == 200
        assert (
            client.post("/score", content=encoded(COLOURS["red"]), headers=PNG).json()["predictions"][0]["label"]
            == "scarlet"
        )
