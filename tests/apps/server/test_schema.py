"""The OpenAPI document, tried out by a machine: whatever is sent, no 5xx and no other shape."""

from __future__ import annotations

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.apps.server.conftest import serving

schemathesis.serializer.alias("application/zip", "application/octet-stream")

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)


@pytest.fixture(scope="module")
def api(make_settings):
    """The document of a running server whose edits are short."""
    with serving(make_settings(max_steps=4, max_images=2)) as running:
        document = httpx.get(f"{running.url}/openapi.json", trust_env=False).json()
        schema = schemathesis.openapi.from_dict(document)
        schema.config.update(base_url=running.url)
        yield schema


def operations() -> list[str]:
    """Method and path of everything that the document describes."""
    return [
        "GET /healthz",
        "GET /metrics",
        "GET /readyz",
        "GET /v1/edits/{id}",
        "GET /v1/edits/{id}/events",
        "DELETE /v1/edits/{id}",
        "GET /v1/models",
        "GET /v1/models/{id}",
        "GET /v1/models/{id}/pull",
        "POST /v1/models/{id}/pull",
        "DELETE /v1/models/{id}/pull",
        "GET /v1/catalogue",
        "GET /v1/limits",
        "GET /v2",
        "GET /v2/health/live",
        "GET /v2/health/ready",
        "GET /v2/models/{model}",
        "GET /v2/models/{model}/ready",
        "GET /v2/models/{model}/versions/{version}",
        "GET /v2/models/{model}/versions/{version}/ready",
        "POST /invocations",
        "POST /score",
        "POST /openai/deployments/{deployment}/images/edits",
        "POST /v1/edits",
        "POST /v1/images/edits",
        "POST /openai/v1/images/edits",
        "POST /v1/segments",
        "GET /v1/sessions",
        "POST /v1/sessions",
        "GET /v1/sessions/{id}",
        "PATCH /v1/sessions/{id}",
        "DELETE /v1/sessions/{id}",
        "GET /v1/sessions/{id}/export",
        "POST /v1/sessions/import",
        "POST /v1/sessions/{id}/head",
        "POST /v1/sessions/{id}/turns",
        "PATCH /v1/sessions/{id}/turns/{turn}",
        "GET /v1/sessions/{id}/turns/{turn}/download",
        "GET /v1/sessions/{id}/turns/{turn}/inputs/{part}",
        "GET /v1/sessions/{id}/turns/{turn}/mask",
        "GET /v1/sessions/{id}/turns/{turn}/picture",
        "GET /v1/sessions/{id}/turns/{turn}/thumbnail",
        "GET /v1/sessions/{id}/turns/{a}/compare/{b}",
        "POST /v2/models/{model}/infer",
        "POST /v2/models/{model}/versions/{version}/infer",
    ]


@pytest.mark.parametrize("operation", operations())
def test_no_server_error(api, operation):
    method, path = operation.split()

    @settings(
        max_examples=25 if method == "POST" else 8,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=api[path][method].as_strategy())
    def whatever_is_sent(case) -> None:
        case.validate_response(case.call(timeout=60), checks=CHECKS)

    whatever_is_sent()


def test_every_operation_is_tried(api):
    document = api.raw_schema["paths"]
    described = {f"{method.upper()} {path}" for path in document for method in document[path]}
    assert described == set(operations())


def test_the_examples_work(server, api):
    body = api.raw_schema["paths"]["/v1/edits"]["post"]["requestBody"]["content"]
    native = body["application/json"]["schema"]["examples"][0]
    infer = api.raw_schema["components"]["schemas"]["InferRequest"]["examples"][0]
    assert server.client.post("/v1/edits", json={**native, "model": "sd2"}).status_code == 200
    assert server.client.post("/v2/models/sd2/infer", json=infer).status_code == 200


def test_the_document_names_every_error(api):
    document = api.raw_schema
    edit = document["paths"]["/v1/edits"]["post"]
    assert set(edit["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert edit["requestBody"]["content"]["application/json"]["schema"]["examples"]
    assert {"200", "202", "400", "401", "413", "429", "503", "504"} <= set(edit["responses"])
    assert "InferRequest" in document["components"]["schemas"]
    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}
