"""What is in deploy/ is valid, safe, and agrees with the product."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest

from sidecar import __version__
from sidecar.adapters.config_file import load
from tests.support import kustomize

if TYPE_CHECKING:
    from tests.support.kustomize import Resource

ROOT = Path(__file__).resolve().parents[1]
KUBERNETES = ROOT / "deploy" / "kubernetes"
COMPONENTS = KUBERNETES / "components"
KUSTOMIZATIONS = sorted(
    file.parent for file in KUBERNETES.rglob("kustomization.yaml") if COMPONENTS not in file.parents
)
CLASSIC = KUBERNETES / "overlays" / "classic"
DEPLOYED_CONFIGS = sorted((ROOT / "deploy").rglob("sidecar.yaml"))
COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
IMAGE = f"circuit-sidecar:{__version__}"
SUPPORTED_KUBERNETES = ["1.29", "1.31", "1.33"]
"""1.29 is the first release whose native sidecars are on without being asked for."""

by_folder = pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda folder: folder.name)


def tool(name: str) -> Path:
    return Path(sysconfig.get_path("scripts"), name)


def pods(folder: Path) -> list[tuple[Resource, Any]]:
    """Each Deployment and Job of a kustomization, with the pod that it makes."""
    rendered = kustomize.render(folder)
    return [(one, one["spec"]["template"]["spec"]) for one in rendered if one["kind"] in {"Deployment", "Job"}]


def shop(folder: Path) -> tuple[Any, Any]:
    """The pod that has the sidecar, and the sidecar's container in it."""
    (pod,) = [pod for workload, pod in pods(folder) if workload["metadata"]["name"] == "shop"]
    containers = [*pod.get("initContainers", []), *pod["containers"]]
    (sidecar,) = [container for container in containers if container["name"] == "sidecar"]
    return pod, sidecar


@by_folder
@pytest.mark.parametrize("version", SUPPORTED_KUBERNETES)
def test_every_manifest_is_valid_by_the_schemas_of_kubernetes(folder: Path, version: str) -> None:
    for resource in kustomize.render(folder):
        assert kubernetes_validate.validate(resource, version, strict=True) == version


@pytest.mark.parametrize("folder", [each for each in KUSTOMIZATIONS if each != CLASSIC], ids=lambda folder: folder.name)
def test_the_sidecar_is_a_native_one(folder: Path) -> None:
    pod, sidecar = shop(folder)
    assert pod["initContainers"] == [sidecar]
    assert sidecar["restartPolicy"] == "Always"
    assert "lifecycle" not in sidecar


def test_the_classic_sidecar_is_ready_before_the_application_starts_and_outlives_its_last_requests() -> None:
    pod, sidecar = shop(CLASSIC)
    assert "initContainers" not in pod
    assert pod["containers"][0] == sidecar
    _, native = shop(KUBERNETES / "base")
    differs = {"lifecycle": None, "restartPolicy": None}
    assert {**sidecar, **differs} == {**native, **differs}
    start, stop = (sidecar["lifecycle"][hook]["exec"]["command"] for hook in ("postStart", "preStop"))
    assert start == ["sidecar", "healthcheck", "--wait", "30s"]
    done = subprocess.run(
        [tool("python"), *stop[1:-1], stop[-1].replace("15", "0")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    drain = load_config(KUBERNETES / "base" / "sidecar" / "sidecar.yaml").proxy.drain_timeout
    assert pod["terminationGracePeriodSeconds"] > 15 + drain


def test_the_job_has_the_pod_of_the_base_and_ends() -> None:
    rendered = kustomize.render(KUBERNETES / "overlays" / "job")
    assert [one["metadata"]["name"] for one in rendered if one["kind"] == "Deployment"] == ["catalog"]
    pod, sidecar = shop(KUBERNETES / "overlays" / "job")
    _, native = shop(KUBERNETES / "base")
    assert (pod["restartPolicy"], sidecar) == ("Never", native)
    assert "--count" in pod["containers"][0]["command"]


@by_folder
def test_the_network_reaches_the_telemetry_port_only(folder: Path) -> None:
    (policy,) = [one for one in kustomize.render(folder) if one["kind"] == "NetworkPolicy"]
    _, sidecar = shop(folder)
    assert policy["spec"]["ingress"] == [{"ports": [{"protocol": "TCP", "port": sidecar["ports"][0]["name"]}]}]
    (workload,) = [one for one, _ in pods(folder) if one["metadata"]["name"] == "shop"]
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"] == {"matchLabels": labels}
    ports = {rule["port"] for egress in policy["spec"]["egress"] for rule in egress["ports"]}
    assert ports == {53, 8080}


def test_the_pod_monitor_scrapes_the_telemetry_port_of_the_pods() -> None:
    folder = COMPONENTS / "pod-monitor"
    (component,), (monitor,) = (kustomize.load(folder / name) for name in ("kustomization.yaml", "pod_monitor.yaml"))
    assert (component["kind"], component["resources"]) == ("Component", ["pod_monitor.yaml"])
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    _, sidecar = shop(KUBERNETES / "base")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == (sidecar["ports"][0]["name"], "/metrics")
    (workload,) = [one for one, _ in pods(KUBERNETES / "base") if one["metadata"]["name"] == "shop"]
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert monitor["spec"]["selector"] == {"matchLabels": labels}


@by_folder
def test_each_probe_asks_the_telemetry_port(folder: Path) -> None:
    _, sidecar = shop(folder)
    (port,) = sidecar["ports"]
    telemetry = load_config(KUBERNETES / "base" / "sidecar" / "sidecar.yaml").telemetry
    assert port == {"name": "telemetry", "containerPort": telemetry.listen[0].port}
    paths = {name: sidecar[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/startupz", "readiness": "/readyz", "liveness": "/livez"}
    assert {sidecar[f"{name}Probe"]["httpGet"]["port"] for name in paths} == {"telemetry"}


@by_folder
def test_the_configuration_is_mounted_as_a_directory(folder: Path) -> None:
    pod, sidecar = shop(folder)
    (mount,) = [mount for mount in sidecar["volumeMounts"] if mount["name"] == "config"]
    assert mount == {"name": "config", "mountPath": "/etc/sidecar", "readOnly": True}
    (config_map,) = [one for one in kustomize.render(folder) if one["kind"] == "ConfigMap"]
    assert {"name": "config", "configMap": {"name": config_map["metadata"]["name"]}} in pod["volumes"]
    assert list(config_map["data"]) == ["sidecar.yaml"]


@by_folder
def test_every_container_meets_the_restricted_pod_security_standard(folder: Path) -> None:
    for _, pod in pods(folder):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@by_folder
def test_every_container_has_requests_and_a_memory_limit(folder: Path) -> None:
    for _, pod in pods(folder):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


@by_folder
def test_the_pod_leaves_the_sidecar_time_to_drain(folder: Path) -> None:
    pod, _ = shop(folder)
    drain = load_config(KUBERNETES / "base" / "sidecar" / "sidecar.yaml").proxy.drain_timeout
    assert pod["terminationGracePeriodSeconds"] > 2 * drain


@by_folder
def test_state_is_kept_on_a_writable_volume(folder: Path) -> None:
    pod, sidecar = shop(folder)
    state_dir = load_config(KUBERNETES / "base" / "sidecar" / "sidecar.yaml").state_dir
    assert {"name": "state", "mountPath": state_dir} in sidecar["volumeMounts"]
    assert [volume["name"] for volume in pod["volumes"] if "emptyDir" in volume] == ["state"]


@by_folder
def test_every_image_is_the_version_of_this_tree(folder: Path) -> None:
    images = {
        container["image"]
        for _, pod in pods(folder)
        for container in [*pod.get("initContainers", []), *pod["containers"]]
    }
    assert images == {IMAGE}


def test_the_production_overlay_changes_the_sidecar_and_keeps_the_rest_of_it() -> None:
    _, base = shop(KUBERNETES / "base")
    _, production = shop(KUBERNETES / "overlays" / "production")
    assert production["resources"] != base["resources"]
    assert {**production, "resources": None} == {**base, "resources": None}


def load_config(file: Path) -> Any:
    loaded = load(file, {})
    assert loaded.config is not None, loaded.problems
    return loaded.config


@pytest.mark.parametrize("file", DEPLOYED_CONFIGS, ids=lambda file: file.parents[1].name)
def test_every_deployed_configuration_is_without_errors_and_warnings(file: Path) -> None:
    assert list(load(file, {}).problems) == []


def test_the_compose_file_is_valid_by_the_compose_specification() -> None:
    check = [str(tool("check-jsonschema")), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_compose_example_mounts_the_configuration_and_shares_the_sidecars_network() -> None:
    (compose,) = kustomize.load(COMPOSE)
    sidecar = compose["services"]["sidecar"]
    (mount,) = sidecar["volumes"]
    source, target, _ = mount.split(":")
    assert (COMPOSE.parent / source / "sidecar.yaml").is_file()
    assert target == "/etc/sidecar"
    assert compose["services"]["shop"]["network_mode"] == "service:sidecar"
    assert {service["image"] for service in compose["services"].values()} == {IMAGE}


def test_the_compose_example_grants_more_than_the_drain_takes() -> None:
    (compose,) = kustomize.load(COMPOSE)
    drain = load_config(COMPOSE.parent / "sidecar" / "sidecar.yaml").proxy.drain_timeout
    assert int(compose["services"]["sidecar"]["stop_grace_period"].removesuffix("s")) > drain


@pytest.mark.parametrize("command", ["demo_client", "demo_origin"])
def test_the_example_programs_exist(command: str) -> None:
    texts = [file.read_text() for file in (KUBERNETES / "base").glob("*.yaml")] + [COMPOSE.read_text()]
    assert sum(f"sidecar.adapters.{command}" in text for text in texts) == 2
    assert (ROOT / "sidecar" / "adapters" / f"{command}.py").is_file()


def test_the_dockerfile_is_lint_free() -> None:
    done = subprocess.run(
        [tool("hadolint"), "--format", "json", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert json.loads(done.stdout) == []
