"""The rendered manifests in infrastructure/aks, for review. `python -m testing.support.aks_example` writes them anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vision_mlops.endpoints.aks.manifests import EndpointManifest, render_text

FOLDER = Path(__file__).parents[2] / "infrastructure" / "aks"
FILE = FOLDER / "example.yaml"
EXAMPLE = EndpointManifest(
    endpoint="textile",
    namespace="vision",
    deployment="version-3",
    model="textile",
    version="3",
    bundle_id="0123456789ab",
    image="crvision.azurecr.io/mlops-textile:3-0123456789ab",
    host="textile.ml.example.org",
    ingress_class="nginx",
    cluster_issuer="letsencrypt",
)

BEHIND_GATEWAY = replace(EXAMPLE, gateway="mlops-gateway/mlops", ingress_class=None, cluster_issuer=None)
EXAMPLES = {FILE: EXAMPLE, FOLDER / "gateway-example.yaml": BEHIND_GATEWAY}

if __name__ == "__main__":
    for file, definition in EXAMPLES.items():
        file.write_text(render_text(definition), encoding="utf-8")
