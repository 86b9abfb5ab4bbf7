"""Entry script for Azure ML's own inference server: the same requests and responses as with ``mlops serve``.

Azure ML runs it where a deployment names a scoring script instead of a container of its own. Here:

    AZUREML_MODEL_DIR=outputs/bundles azmlinfsrv --entry_script src/vision_mlops/serving/score.py
"""

from __future__ import annotations

import os
import time
from typing import Any

from azureml_inference_server_http.api.aml_request import rawhttp
from azureml_inference_server_http.api.aml_response import AMLResponse

from vision_mlops.config.workload import Serving
from vision_mlops.config.workload_files import load_serving
from vision_mlops.core.cpu import available_cores
from vision_mlops.model.bundle_lookup import mounted_model
from vision_mlops.serving.http.http_messages import RequestError
from vision_mlops.serving.http.openapi import LOADING
from vision_mlops.serving.http.scoring_requests import read_scoring_request
from vision_mlops.serving.responses import description, score
from vision_mlops.serving.served_model import ModelSource, ServedModel, load_model
from vision_mlops.serving.telemetry.trace_context import request_id_of

_model: ServedModel | None = None
_serving = Serving()


def init() -> None:
    """Load and verify the bundle in AZUREML_MODEL_DIR; the server calls it once in each of its processes.

    Raises:
        BundleError: there is none, or it is refused. The server then ends, and Azure ML shows the message.
    """
    global _model, _serving
    folder, name, version = mounted_model()
    threads = max(1, available_cores() // int(os.environ.get("WORKER_COUNT") or 1))
    _model = load_model(ModelSource(folder, name, version, threads=threads))
    _serving = load_serving()


@rawhttp  # type: ignore[untyped-decorator, unused-ignore]
def run(request: Any) -> Any:
    """Respond to one request.

    Args:
        request: Flask's.

    Returns:
        The server's response, with the status and JSON of ``mlops serve``.
    """
    started = time.perf_counter()
    request_id = request_id_of(request.headers.get("X-Request-Id") or "")
    headers = {"X-Request-Id": request_id}
    try:
        return AMLResponse(_answer(request, request_id, started), 200, headers, json_str=True)
    except RequestError as error:
        headers |= {name.decode().title(): value.decode() for name, value in error.headers}
        body = {"error": {"code": error.code, "message": error.message}}
        return AMLResponse(body, error.status, headers, json_str=True)


def _answer(request: Any, request_id: str, started: float) -> dict[str, Any]:
    if _model is None:
        raise RequestError(503, "not_ready", LOADING)
    if request.method != "POST":
        raise RequestError(
            405, "method_not_allowed", f"/score takes POST, not {request.method}", ((b"allow", b"POST"),)
        )
    limit = _serving.max_body_mb * 2**20
    if (request.content_length or 0) > limit:
        raise RequestError(413, "body_too_large", f"the body is larger than {_serving.max_body_mb} MB")
    wanted = read_scoring_request(
        request.headers.get("Content-Type") or "",
        request.query_string.decode("latin-1"),
        request.get_data(),
        serving=_serving,
        classes=len(_model.predictor.classes),
        content_encoding=request.headers.get("Content-Encoding") or "",
    )
    if wanted.describe:
        return description(_model, _serving, request_id)
    return score(_model, wanted, request_id=request_id, started=started)[0]
