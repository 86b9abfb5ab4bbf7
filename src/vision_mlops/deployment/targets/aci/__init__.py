"""Azure Container Instances: a container group is an endpoint with one deployment.

- :mod:`.target` is what the commands use; :mod:`.groups` calls the service.
- :mod:`.definition` says what a group is made of, and reads back what one was made of.
- :mod:`.states` reads from the service's answer how a group is, :mod:`.health` asks the server itself.
- :mod:`.changes` makes and changes groups, waits, and undoes what did not work.
"""

from __future__ import annotations

from vision_mlops.deployment.targets.aci.target import ContainerInstances
from vision_mlops.deployment.targets.base import Target


def open_target() -> Target:
    """The target; nothing is read or sent before it is used."""
    return ContainerInstances()
