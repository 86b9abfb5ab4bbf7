"""Settings come from the environment, and a wrong one is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vision_mlops.core.errors import ConfigError
from vision_mlops.flask_app.app_settings import PREFIX, AppSettings, load_app_settings

GUIDE = Path(__file__).parents[3] / "docs" / "how_to" / "web_app.md"
MANAGED = "https://textile.westeurope.inference.ml.azure.com/score"


def load(**variables: str) -> AppSettings:
    return load_app_settings({f"{PREFIX}{name}": value for name, value in variables.items()})


def test_variables_become_settings() -> None:
    known = load(
        ENDPOINT="http://127.0.0.1:8000", MAX_UPLOAD_MB="2.5", TRUST_PROXY="1", HOSTS="a.example, b.example", TITLE=""
    )
    assert (known.endpoint, known.max_upload_mb, known.trust_proxy) == ("http://127.0.0.1:8000/score", 2.5, 1)
    assert known.hosts == ("a.example", "b.example")
    assert load(HOSTS="localhost,::1").hosts == ("localhost", "::1")
    assert known.title == ""
    assert load(RATE_LIMIT="none").rate_limit == "none"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/score"),
        ("https://host.example/api/v1/service/a/score", "https://host.example/api/v1/service/a/score"),
        ("https://[::1]:8000", "https://[::1]:8000/score"),
        ("http://host.example/score?tenant=1", "http://host.example/score?tenant=1"),
    ],
)
def test_an_address_without_a_path_means_the_scoring_route(given: str, expected: str) -> None:
    assert load(ENDPOINT=given).endpoint == expected


WRONG = {
    "unknown": ({"ENDPIONT": "x"}, "MLOPS_APP_ENDPOINT"),
    "no address": ({"ENDPOINT": "textile"}, "http://127.0.0.1:8000"),
    "another scheme": ({"ENDPOINT": "ftp://host/score"}, "must be an address"),
    "bad port": ({"ENDPOINT": "http://host:port/score"}, "MLOPS_APP_ENDPOINT"),
    "key in the address": ({"ENDPOINT": "https://me:k3y@host/score"}, "MLOPS_APP_ENDPOINT_KEY"),
    "auth": ({"ENDPOINT_AUTH": "password"}, "MLOPS_APP_ENDPOINT_AUTH"),
    "no number": ({"MAX_UPLOAD_MB": "much"}, "MLOPS_APP_MAX_UPLOAD_MB"),
    "below zero": ({"TIMEOUT_S": "-1"}, "MLOPS_APP_TIMEOUT_S"),
    "rate": (
        {"RATE_LIMIT": "often"},
        "MLOPS_APP_RATE_LIMIT: must be a number per second, minute, hour or day, such as",
    ),
    "space in the address": ({"ENDPOINT": "http://127.0.0.1:1/sc ore"}, "MLOPS_APP_ENDPOINT: must be one address"),
    "address on two lines": ({"ENDPOINT": "http://a\nb"}, "MLOPS_APP_ENDPOINT: must be one address"),
    "key on two lines": ({"ENDPOINT_KEY": "k3y\nk3y"}, "MLOPS_APP_ENDPOINT_KEY: must have only printable ASCII"),
    "key in another script": ({"ENDPOINT_KEY": "k3y\u00fc"}, "MLOPS_APP_ENDPOINT_KEY: must have only printable ASCII"),
    "host with its scheme": (
        {"HOSTS": "http://app.example"},
        "MLOPS_APP_HOSTS: 'http://app.example' is not a host name",
    ),
    "host with its port": ({"HOSTS": "a:80"}, "MLOPS_APP_HOSTS: 'a:80' is not a host name"),
    "any host": ({"HOSTS": "*"}, "MLOPS_APP_HOSTS: '*' is not a host name"),
    "samples that are not there": ({"SAMPLES": "/nowhere"}, "MLOPS_APP_SAMPLES: '/nowhere' is not a folder"),
    "samples that are a file": ({"SAMPLES": __file__}, "MLOPS_APP_SAMPLES"),
    "samples that no path is": ({"SAMPLES": "x" * 10_000}, "MLOPS_APP_SAMPLES"),
    "short secret": ({"SECRET_KEY": "k3y"}, "at least 16 characters"),
    "yes or no": ({"TRUST_SIGN_IN": "perhaps"}, "MLOPS_APP_TRUST_SIGN_IN"),
    "key without auth": ({"ENDPOINT_AUTH": "key"}, "MLOPS_APP_ENDPOINT_KEY"),
}


@pytest.mark.parametrize(("variables", "named"), WRONG.values(), ids=WRONG)
def test_a_wrong_setting_is_named_and_no_secret_is(variables: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(**variables)
    assert named in str(caught.value)
    assert "k3y" not in str(caught.value)


def test_the_key_is_not_in_what_is_printed() -> None:
    known = load(ENDPOINT_KEY="k3y of the endpoint", SECRET_KEY="k3y of the sessions")
    assert "k3y" not in repr(known) + str(known) + known.model_dump_json()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "none"),
        ({"ENDPOINT_KEY": "k"}, "key"),
        ({"ENDPOINT": MANAGED}, "identity"),
        ({"ENDPOINT": MANAGED, "ENDPOINT_KEY": "k"}, "key"),
        ({"ENDPOINT_AUTH": "identity", "ENDPOINT": "https://proxy.example"}, "identity"),
        ({"ENDPOINT": "https://inference.ml.azure.com.example"}, "none"),
    ],
)
def test_the_sign_in_follows_from_what_is_set(variables: dict[str, str], expected: str) -> None:
    assert load(**variables).auth == expected


@pytest.mark.parametrize(
    ("variables", "told", "expected"),
    [
        ({}, 2**20, 2**20),
        ({}, None, 20 * 2**20),
        ({"MAX_IMAGE_MB": "2"}, 2**20, 2**20),
        ({"MAX_IMAGE_MB": "0.5"}, 2**20, 2**19),
        ({"ENDPOINT": MANAGED}, 20 * 2**20, 3 * 2**19),
        ({"ENDPOINT": MANAGED, "MAX_IMAGE_MB": "4"}, 20 * 2**20, 4 * 2**20),
    ],
)
def test_the_smallest_limit_counts(variables: dict[str, str], told: int | None, expected: int) -> None:
    assert load(**variables).image_bytes(told) == expected


def test_every_setting_is_in_the_guide() -> None:
    described = set(re.findall(r"^\| `(MLOPS_APP_\w+)`", GUIDE.read_text(encoding="utf-8"), re.MULTILINE))
    assert described == {PREFIX + name.upper() for name in AppSettings.model_fields}
