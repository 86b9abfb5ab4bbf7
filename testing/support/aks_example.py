"""The rendered manifests in infrastructure/aks, for review. `python -m testing.support.aks_example` writes them anew."""

from __future__ import annotations

from pathlib import Path

from vision_mlops.endpoints.aks.manifests import EndpointManifest, render_text

FILE = Path(__file__).parents[2] / "infrastructure" / "aks" / "example.yaml"
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

if __name__ == "__main__":
    FILE.write_text(render_text(EXAMPLE), encoding="utf-8")
