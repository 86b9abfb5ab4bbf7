"""The OpenAPI description of the scoring API."""

from __future__ import annotations

from typing import Any

from vision_mlops import __version__

LOADING = "the model is being loaded"
"""What a server says before it knows whether its model can be served: who waits for it, waits on."""
_ERRORS = {
    400: "Malformed body",
    401: "Key missing or wrong",
    408: "Body not complete in time",
    413: "Body or image too large",
    415: "Content type, encoding or charset not supported, or not an image",
    422: "Image cannot be decoded, or a value is out of range",
    429: "Queue full; see Retry-After",
    503: "Not ready, or no response in time",
}
_RELOAD_ERRORS = {
    400: "Malformed body",
    401: "Key missing or wrong",
    403: "The server has no key for administration",
    409: "Another model is being loaded, or the bundle has other classes and the request does not allow that",
    422: "The bundle was refused; the model stays",
}
_PREDICTIONS = {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def describe(title: str, classes: list[str]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a server with these classes."""
    text = {"type": "string"}
    number = {"type": "number"}
    failure = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    options: dict[str, Any] = {
        "top_k": {"type": "integer", "minimum": 1, "maximum": len(classes) or 1},
        "explain": {"type": "boolean", "default": False},
    }
    body: dict[str, Any] = {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {"schema": _object(["image"], image={"type": "string", "format": "binary"}, **options)},
        "application/json": {
            "schema": {
                "oneOf": [
                    _object(["image"], image={"type": "string", "format": "byte"}, **options),
                    _object(
                        ["images"], images={"type": "array", "items": {"type": "string", "format": "byte"}}, **options
                    ),
                    _object(["describe"], describe={"const": True}),
                ]
            }
        },
    }
    kinds = [{"$ref": f"#/components/schemas/{name}"} for name in ("Answer", "Description")]
    answer = {"application/json": {"schema": {"oneOf": kinds}}}
    query = [{"name": name, "in": "query", "schema": schema} for name, schema in options.items()]
    responses: dict[str, Any] = {
        "200": {"description": "Predictions, best first, or a description of the model", "content": answer}
    }
    responses |= {str(code): {"description": what, "content": failure} for code, what in _ERRORS.items()}
    plain = {"responses": {"200": {"description": "Yes"}, "503": {"description": "Not yet", "content": failure}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__},
        "paths": {
            "/score": {"post": {"parameters": query, "requestBody": {"required": True, "content": body},
                                "responses": responses, "security": [{}, {"key": []}, {"bearer": []}]}},
            "/health/live": {"get": {"responses": {"200": {"description": "The process runs"}}}},
            "/health/ready": {"get": plain},
            "/admin/reload": {"post": {
                "requestBody": {"required": False, "content": {"application/json": {"schema": {
                    "type": "object", "properties": {
                        "bundle": text, "name": text, "version": text,
                        "other_classes": {"type": "boolean", "default": False}}}}}},
                "responses": {"200": {"description": "All workers respond with the new model"}}
                | {str(code): {"description": what, "content": failure} for code, what in _RELOAD_ERRORS.items()},
                "security": [{"key": []}, {"bearer": []}]}},
            "/metrics": {"get": {"responses": {"200": {"description": "Prometheus text format"}}}},
        },
        "components": {
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "schemas": {
                "Prediction": _object(["label", "probability"], label={"type": "string", "enum": classes} if classes
                                      else text, probability=number),
                "Answer": _object(
                    ["model", "timing", "request_id"],
                    predictions=_PREDICTIONS,
                    heat_map={"type": "string", "format": "byte"},
                    results={"type": "array", "items": _object(["predictions"], predictions=_PREDICTIONS)},
                    model=_object(["name", "version", "id"], name=text, version=text, id=text),
                    timing=_object([], decode_ms=number, inference_ms=number, work_ms=number, total_ms=number),
                    request_id=text,
                ),
                "Description": _object(
                    ["model", "limits", "request_id"],
                    model=_object(
                        ["name", "version", "id", "title", "classes", "created", "backbone", "image_size", "resize",
                         "data_fingerprint", "git_commit", "run_id", "libraries", "quantization", "metrics", "evaluation"],
                        **dict.fromkeys(["name", "version", "id", "title", "created", "backbone", "resize",
                                         "data_fingerprint", "git_commit", "run_id"], text),
                        image_size={"type": "integer"}, classes={"type": "array", "items": text},
                        libraries={"type": "object", "additionalProperties": text},
                        metrics={"type": "object", "additionalProperties": number},
                        quantization={"type": ["object", "null"]},
                        evaluation={"type": ["object", "null"], "description": "What the model reached on its test images"},
                    ),
                    limits=_object(["body_bytes", "images"], body_bytes={"type": "integer"}, images={"type": "integer"}),
                    request_id=text,
                ),
                "Error": _object(["error"], error=_object(["code", "message"], code=text, message=text)),
            },
        },
    }  # fmt: skip
