"""The record of a contestant about its work in Custom Vision, to continue or remove it."""

from __future__ import annotations

from typing import ClassVar

from vision_mlops.benchmark.service_record import ServiceRecord


class KeptWork(ServiceRecord, frozen=True):
    """The record of a project.

    Attributes:
        endpoint: Endpoint of the account with the project.
        project: Id of the project.
        name: Name of the project.
        iteration: Id of the model whose training was started; empty if there is none.
        outdated: Ids of models that must not be used because a new training was requested.
    """

    file_name: ClassVar[str] = "custom_vision.json"
    damage_hint: ClassVar[str] = "remove it; the project is found again by its name"
    endpoint: str
    project: str
    name: str
    iteration: str = ""
    outdated: tuple[str, ...] = ()
