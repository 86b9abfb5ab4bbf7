"""What the contestant ``automl-images`` has made in the workspace."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from vision_mlops.benchmark.service_record import ServiceRecord


class KeptTraining(ServiceRecord):
    """What was made, and how far it is.

    Attributes:
        workspace: Resource id of the workspace that it is in.
        uploads: Folder in a datastore that images and tables were uploaded to; empty if nothing was uploaded.
        job: The job that trains, or will; empty if none was submitted, or the last one failed.
        jobs: All jobs that were submitted.
        machine: Size of the machines that train.
        seconds: Duration of the training; None before its end, and if the service does not report it.
    """

    file_name: ClassVar[str] = "automl.json"
    damage_hint: ClassVar[str] = "look for its jobs in Azure ML studio, and remove the file"
    workspace: str
    uploads: str = ""
    job: str = ""
    jobs: list[str] = Field(default_factory=list)
    machine: str = ""
    seconds: float | None = None
