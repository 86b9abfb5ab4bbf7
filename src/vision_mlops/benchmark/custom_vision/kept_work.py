"""What the contestant ``custom-vision`` has made in Custom Vision."""

from __future__ import annotations

from typing import ClassVar

from vision_mlops.benchmark.service_record import ServiceRecord


class KeptWork(ServiceRecord, frozen=True):
    """The project that it uses.

    Attributes:
        endpoint: Endpoint of the account that has the project.
        project: Id of the project.
        name: Name of the project.
        iteration: Id of the model in training or trained; empty if there is none.
        outdated: Ids of the models that existed when another training was asked for; none of them is used.
    """

    file_name: ClassVar[str] = "custom_vision.json"
    damage_hint: ClassVar[str] = "remove it; the project is found again by its name"
    endpoint: str
    project: str
    name: str
    iteration: str = ""
    outdated: tuple[str, ...] = ()
