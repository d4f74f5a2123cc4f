"""The API's description of itself is true: checked by hand where it matters, and by schemathesis everywhere."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from jsonschema import Draft202012Validator

from sidecar import __version__
from tests.support.admin import Administered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiohttp.web import Application, Request

    from tests.conftest import StartOrigin, StartSidecar

    Client = TestClient[Request, Application]

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,unsupported_method"
)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with TestClient(TestServer(Administered().app())) as client:
        yield client


async def described(client: Client) -> Any:
    async with client.get("/v1/openapi.json") as response:
        assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
        return await response.json()


async def test_every_call_is_described_and_nothing_else(client: Client) -> None:
    document = await described(client)
    assert (document["openapi"], document["info"]["version"]) == ("3.1.0", __version__)
    async with client.get("/v1") as response:
        calls = (await response.json())["calls"]
    operations = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert operations == {(call["method"], call["path"]) for call in calls}
    identifiers = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len(set(identifiers)) == len(identifiers)


async def test_what_may_be_sent_is_described(client: Client) -> None:
    paths = (await described(client))["paths"]
    override = paths["/v1/circuits/{name}/override"]["put"]
    assert override["requestBody"]["required"] is True
    schema = override["requestBody"]["content"]["application/json"]["schema"]
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert validator.is_valid({"mode": "forced_open", "ttl": "1h30m", "reason": "a", "actor": "b"})
    for wrong in ({}, {"mode": "open"}, {"mode": "observe", "ttl": 5}, {"mode": "observe", "why": ""}):
        assert not validator.is_valid(wrong)
    parameters = paths["/v1/events"]["get"]["parameters"]
    assert {each["name"]: (each["in"], each["required"]) for each in parameters} == {
        "since": ("query", False),
        "limit": ("query", False),
        "circuit": ("query", False),
    }
    (name,) = paths["/v1/circuits/{name}"]["get"]["parameters"]
    assert (name["in"], name["required"]) == ("path", True)


@pytest.mark.parametrize("path", ["/v1/openapi.json", "/v1/config"])
async def test_what_somebody_has_already_is_not_sent_again(client: Client, path: str) -> None:
    async with client.get(path) as first:
        tag = first.headers["ETag"]
        assert first.headers["Cache-Control"] == "no-cache"
    async with client.get(path, headers={"If-None-Match": tag}) as again:
        assert (again.status, again.headers["ETag"], await again.read()) == (304, tag, b"")
    async with client.get(path, headers={"If-None-Match": '"other"'}) as other:
        assert other.status == 200


async def test_another_configuration_has_another_tag() -> None:
    process = Administered()
    async with TestClient(TestServer(process.app())) as client:
        async with client.get("/v1/config") as before:
            tag = before.headers["ETag"]
        process.config = type(process.config)(process.config.upstreams, process.config.routes[:1])
        async with client.get("/v1/config", headers={"If-None-Match": tag}) as after:
            assert after.status == 200


async def test_schemathesis_finds_nothing_that_is_not_as_described(
    start_origin: StartOrigin, start_sidecar: StartSidecar, tmp_path: Path
) -> None:
    sidecar = await start_sidecar(await start_origin())
    # Names that nothing has would be all that it tries.
    (tmp_path / "schemathesis.toml").write_text('[parameters]\n"path.name" = "all"\n"path.route" = "all"\n')
    host, port = sidecar.addresses["admin"][0]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run", f"http://{host}:{port}/v1/openapi.json",
        "--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", "10",
        "--seed", "1", "--no-color",
        "--exclude-path-regex", "stream$",  # they never end
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=tmp_path,
    )  # fmt: skip
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()
    found = re.search(r"Selected: (\d+)/(\d+)\n +Tested: (\d+)\n", printed.decode())
    assert found is not None, printed.decode()
    selected, known, tested = map(int, found.groups())
    assert (selected, tested) == (known - 2, known - 2)
