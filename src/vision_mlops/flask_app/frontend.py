"""The objects that the views of one app share: settings, endpoint, deployed model and store of corrections."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from flask import Flask, current_app, request, session

from vision_mlops.flask_app.app_settings import AppSettings
from vision_mlops.flask_app.brand import Brand
from vision_mlops.flask_app.corrections.correction_store import CorrectionStore
from vision_mlops.flask_app.deployed_model import DeployedModel
from vision_mlops.flask_app.scoring_endpoint import ScoringEndpoint

_KEY = "vision_mlops"
_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
_MOST_SAMPLES = 24


@dataclass(frozen=True, slots=True)
class Frontend:
    """The parts of an app."""

    settings: AppSettings
    endpoint: ScoringEndpoint
    deployed: DeployedModel
    corrections: CorrectionStore | None = None
    brand: Brand | None = None

    def install(self, app: Flask) -> None:
        """Make :func:`frontend` find it."""
        app.extensions[_KEY] = self

    def samples(self) -> dict[str, Path]:
        """Return the images of the gallery, by file name."""
        folder = self.settings.samples
        if folder is None or not folder.is_dir():
            return {}
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _IMAGES and path.is_file())
        return {path.name: path for path in found[:_MOST_SAMPLES]}

    def signed_in_as(self) -> str:
        """Return who has signed in, as App Service says; empty if that is not trusted, or nobody has."""
        if not self.settings.trust_sign_in:
            return ""
        return " ".join(request.headers.get("X-MS-CLIENT-PRINCIPAL-NAME", "").split())[:200]

    def context(self) -> dict[str, Any]:
        """Return what every page can show."""
        known = self.deployed.get()
        model = known.model.model_dump() if known.model else None
        limit = self.settings.image_bytes(known.limits.body_bytes if known.limits else None)
        return {
            "app_title": self.settings.title
            or (self.brand and self.brand.texts.title)
            or (model and model["title"])
            or "Image classification",
            "brand": self.brand,
            "model": model,
            "problem": known.problem.to_dict() if known.problem else None,
            "classes": model["classes"] if model else [],
            "limits": {
                "upload_bytes": int(self.settings.max_upload_mb * 2**20),
                "image_bytes": limit,
                "max_pixels": self.settings.max_pixels,
            },
            "corrections_on": self.corrections is not None,
            "signed_in_as": self.signed_in_as(),
            "session_id": session_id,
            "endpoint_url": self.endpoint.url,
            "endpoint_auth": self.settings.auth,
            "samples": list(self.samples()),
        }


def frontend() -> Frontend:
    """Return the parts of the app that responds to the current request."""
    return cast(Frontend, current_app.extensions[_KEY])


def session_id() -> str:
    """Return the name of this browser's session, for its history; it is kept in the signed cookie."""
    if "id" not in session:
        session["id"] = uuid.uuid4().hex
    return str(session["id"])
