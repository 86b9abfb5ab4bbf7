"""The domains of Custom Vision that classify: each project has one. Here all of them learn in the same way."""

from __future__ import annotations

from azureml_emulator.rest.rest_calls import Json

GENERAL = "ee85a74c-405e-4adc-bb47-ffa8ca0c9f31"
_NAMES = {
    GENERAL: "General",
    "a8e3c40f-fd4a-466a-832a-5e457ae4a344": "General [A1]",
    "2e37d7fb-3a54-486a-b4d6-cfc369af0018": "General [A2]",
    "c151d5b5-dd07-472a-acc8-15d29dea8518": "Food",
    "ca455789-012d-4b50-9fec-5bb63841c793": "Landmarks",
    "b30a91ae-e3c1-4f73-a81e-c270bff27c39": "Retail",
    "0732100f-1a38-4e49-a514-c9b44c697ab5": "General (compact)",
    "a1db07ca-a19a-4830-bae8-e004a42dc863": "General (compact) [S1]",
    "8882951b-82cd-4c32-970b-d5f8cb8bf6d7": "Food (compact)",
    "b5cfd229-2ac7-4b2b-8d0a-2b0661344894": "Landmarks (compact)",
    "6b4faeda-8396-481b-9f8b-177b9fa3097f": "Retail (compact)",
}
PLATFORMS = ("CoreML", "TensorFlow", "DockerFile", "ONNX", "VAIDK")


def domains() -> list[Json]:
    """Return all domains, as the service does."""
    return [
        {"id": id, "name": name, "type": "Classification", "exportable": is_compact(id), "enabled": True}
        for id, name in _NAMES.items()
    ]


def is_compact(domain: str) -> bool:
    """Return whether models of a domain can be exported."""
    return "(compact)" in _NAMES.get(domain, "")
