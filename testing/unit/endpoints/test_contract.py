"""What holds for all targets: what is refused, and what the message advises."""

from __future__ import annotations

import pytest

from vision_mlops.core.errors import DeploymentError
from vision_mlops.endpoints.contract import Deployment, Endpoint, EndpointStatus, check_no_traffic

READY, FAILED = EndpointStatus.READY, EndpointStatus.FAILED


def _endpoint(**deployments: tuple[int, EndpointStatus]) -> Endpoint:
    made = (Deployment(name, "m", "1", state, traffic) for name, (traffic, state) in deployments.items())
    return Endpoint("int", "managed", READY, deployments=tuple(made))


@pytest.mark.parametrize(
    ("deployments", "advice"),
    [
        ({"aaa": (100, READY)}, "delete the endpoint: mlops endpoint delete int --on managed"),
        (
            {"bbb": (0, FAILED), "aaa": (100, READY), "ccc": (0, READY)},
            "move it first: mlops endpoint traffic int ccc=100 --on managed",
        ),
        (
            {"aaa": (100, READY), "bbb": (0, FAILED)},
            "move it first: mlops endpoint traffic int bbb=100 --on managed",
        ),
    ],
)
def test_a_deployment_with_traffic_cannot_be_deleted(
    deployments: dict[str, tuple[int, EndpointStatus]], advice: str
) -> None:
    with pytest.raises(DeploymentError, match="aaa has 100% of the traffic") as refused:
        check_no_traffic(_endpoint(**deployments), "aaa")
    assert refused.value.hint == advice


def test_a_deployment_without_traffic_can_be_deleted() -> None:
    check_no_traffic(_endpoint(aaa=(0, READY), bbb=(100, READY)), "aaa")
