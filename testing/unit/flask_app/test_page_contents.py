"""What pages show of a model, for all that bundles can say of themselves: little, much, and names that are markup."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from vision_mlops.flask_app.app import create_app
from vision_mlops.flask_app.app_settings import AppSettings
from vision_mlops.flask_app.deployed_model import Deployed, DeployedModel
from vision_mlops.flask_app.scoring_answers import Limits, ModelDescription

LIMITS = Limits(body_bytes=2**20, images=8)


def described(count: int, **changes: Any) -> ModelDescription:
    """A model of so many classes, the first without test images, which confuses each with the next one time in ten."""
    names = [f"<b>class & {number}" for number in range(count)]
    matrix = [[0] * count for _ in range(count)]
    for row in range(1, count):
        matrix[row][row], matrix[row][(row + 1) % count] = 9, 1
    empty = {"precision": 0, "recall": 0, "f1": 0, "support": 0, "auc": None, "average_precision": None}
    per_class = {name: {**empty, "recall": 0.9, "support": 10, "auc": 0.97} for name in names} | {names[0]: empty}
    evaluation = {
        "split": "test", "images": 10 * count - 10, "accuracy": 0.9, "accuracy_interval": [0.8123, 0.95432],
        "macro_f1": 0.8765, "expected_calibration_error": 0.0432, "negative_log_likelihood": 0.3, "brier_score": 0.1,
        "per_class": per_class,
        "confusion_matrix": matrix, "reliability": [{"confidence": 0.75, "accuracy": 0.5, "count": 10}],
    }  # fmt: skip
    values = {"name": "parts", "version": "7", "id": "abcdef123456", "classes": names, "evaluation": evaluation}
    return ModelDescription.model_validate(values | changes)


@pytest.fixture
def client() -> FlaskClient:
    return create_app(AppSettings(endpoint="http://127.0.0.1:9")).test_client()


def page(client: FlaskClient, model: ModelDescription, monkeypatch: pytest.MonkeyPatch, path: str = "/model") -> str:
    monkeypatch.setattr(DeployedModel, "get", lambda *_: Deployed(model, LIMITS))
    response = client.get(path)
    assert response.status_code == 200
    return response.text


@pytest.mark.parametrize("count", [2, 5, 9, 40])
def test_all_figures_of_the_evaluation_are_there(
    count: int, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page(client, described(count), monkeypatch)
    for figure in ("90.00%", "81.2% to 95.4%", "0.876", "0.043"):
        assert figure in text
    matrix = text[text.index("Confusion matrix of") : text.index("Reliability diagram")]
    assert matrix.count('class="cell"') == count**2
    assert matrix.count('class="mark"') == matrix.count('class="wrong"') == count - 1
    assert "9 of 10 images of &lt;b&gt;class &amp; 1 were called &lt;b&gt;class &amp; 1" in matrix
    assert '<circle class="mark" cx="292.0" cy="178.0"' in text  # 75% sure, 50% right
    assert "<b>class" not in text
    assert re.search(r"<td>0</td><td>0.0%</td><td>0.0%</td><td>0.000</td><td>–</td>", text)


def test_a_bundle_without_an_evaluation_says_so(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page(client, described(3, evaluation=None, version=""), monkeypatch)
    assert "This bundle has no evaluation" in text
    assert "&lt;b&gt;class &amp; 2" in text
    assert "version" not in text.partition("<main")[2].partition("</p>")[0]
    assert text.count("not recorded") == 5


def test_corrections_can_be_made_where_they_are_kept(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = described(3)
    text = page(client, model, monkeypatch, "/")
    assert "Wrong? The right class is" not in text
    assert "Images are not stored." in text
    keeping = create_app(AppSettings(endpoint="http://127.0.0.1:9", corrections=str(tmp_path / "kept")))
    text = page(keeping.test_client(), model, monkeypatch, "/")
    options = re.findall(r'<option value="([^"]*)">', text)
    assert options == ["", *(f"=&lt;b&gt;class &amp; {number}" for number in range(3)), "none"]
    assert "Images are not stored, except those that you correct." in text
