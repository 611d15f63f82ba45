"""Compose and Kubernetes: closed and limited, valid, and with settings that LogCanary's own classes take."""

import re
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from contracts.settings import AppSettings
from deploy import cluster, image
from deploy.paths import PROJECT

KUBERNETES = PROJECT / "deploy" / "kubernetes"
COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]
WRITES_ITS_CONFIGURATION = {"kafka", "namenode", "datanode"}
"""These images write their configuration into their own file system when they start."""
LISTENS_NOWHERE = {"archiver", "keeper", "cli"}

NOT_LOOKED_UP = {
    "apache/kafka": "no public file names the digest of 4.4.0 yet",
    "flink": "one public file alone names a digest of 2.2.1-java17",
}
"""Images by version alone, and why: no registry could be asked where these files were written."""

KustomizationFields = {"apiVersion", "kind", "namespace", "resources", "images"}


def manifests() -> list[dict[str, Any]]:
    named = yaml.safe_load((KUBERNETES / "kustomization.yml").read_text())["resources"]
    return [one for name in named for one in yaml.safe_load_all((KUBERNETES / name).read_text())]


MANIFESTS = manifests()
CORE = [one for one in MANIFESTS if one["kind"] != "FlinkDeployment"]
FLINK = next(one for one in MANIFESTS if one["kind"] == "FlinkDeployment")


@pytest.mark.parametrize("name", COMPOSE)
def test_a_container_is_closed_and_limited(name: str) -> None:
    service = COMPOSE[name]
    assert int(service["user"].split(":")[0]) > 0
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("read_only", False) is (name not in WRITES_ITS_CONFIGURATION)
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert service["pids_limit"] > 0
    assert ("healthcheck" in service) is (name not in LISTENS_NOWHERE)
    assert re.search(r":v?\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?$", service["image"]), "a version, not a moving name"
    assert "privileged" not in service
    for volume in service.get("volumes", ()):
        assert not volume.startswith("/"), "nothing of the host but this project's folders"


def outside_images() -> set[str]:
    """Images that others build, wherever they are named."""
    named = {service["image"] for service in COMPOSE.values()}
    named |= {container["image"] for pod in pods()[:-1] for container in pod["containers"]} | {FLINK["spec"]["image"]}
    for file in (PROJECT / "deploy" / "images").glob("Dockerfile*"):
        named |= set(re.findall(r"^FROM (\S+)", file.read_text(), flags=re.MULTILINE))
    return {name for name in named if not re.match(r"(registry\.example\.org/)?logcanary", name)}


def test_images_from_outside_are_pinned_by_digest() -> None:
    images = outside_images()
    assert len(images) == 7
    pinned = {name for name in images if re.fullmatch(r"\S+:\S*\d\S*@sha256:[0-9a-f]{64}", name)}
    assert {name.partition(":")[0] for name in images - pinned} == NOT_LOOKED_UP.keys()


def test_compose_has_every_part() -> None:
    assert COMPOSE.keys() >= {"kafka", "namenode", "datanode", "jobmanager", "taskmanager", "exporter", "archiver"}
    assert COMPOSE.keys() >= {"console", "prometheus", "alertmanager", "grafana"}
    for service in COMPOSE.values():
        for volume in service.get("volumes", ()):
            if volume.startswith("./"):
                assert (PROJECT / volume.split(":")[0]).exists(), volume
        for name, wish in dict(service.get("depends_on", {})).items():
            assert "healthcheck" in COMPOSE[name], f"{name} never becomes healthy"
            assert wish == {"condition": "service_healthy"}


@pytest.mark.parametrize("manifest", CORE, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_a_manifest_is_valid(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.33", strict=True)


def test_an_invalid_manifest_is_refused() -> None:
    broken = next(one for one in CORE if one["kind"] == "Deployment") | {"speck": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.33", strict=True)


def test_the_flink_deployment_has_the_fields_of_its_kind() -> None:
    """The fields that we use, as in the operator's published definition (apiVersion flink.apache.org/v1beta1)."""
    assert FLINK["apiVersion"] == "flink.apache.org/v1beta1"
    spec = FLINK["spec"]
    texts = {"image": str, "flinkVersion": str, "serviceAccount": str}
    parts = {"flinkConfiguration": dict, "podTemplate": dict, "jobManager": dict, "taskManager": dict, "job": dict}
    fields = texts | parts
    assert spec.keys() == fields.keys()
    assert all(isinstance(spec[name], kind) for name, kind in fields.items())
    assert re.fullmatch(r"v\d+_\d+", spec["flinkVersion"])
    assert all(isinstance(value, str) for value in spec["flinkConfiguration"].values()), "a map of texts"
    for name in ("jobManager", "taskManager"):
        assert spec[name].keys() <= {"replicas", "resource", "podTemplate"}
        assert isinstance(spec[name]["resource"]["memory"], str)
        assert isinstance(spec[name]["resource"]["cpu"], int | float)
    job = spec["job"]
    assert job.keys() == {"jarURI", "entryClass", "args", "parallelism", "upgradeMode", "state"}
    assert (job["upgradeMode"], job["state"]) == ("last-state", "running")
    assert all(isinstance(word, str) for word in job["args"])
    assert spec["jobManager"]["replicas"] > 1
    configuration = spec["flinkConfiguration"]
    assert configuration["high-availability.type"] == "kubernetes"
    assert configuration["job.autoscaler.enabled"] == "true"
    assert configuration["job.autoscaler.scaling.enabled"] == "false"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **spec["podTemplate"]}
    pod["spec"]["containers"][0] |= {"image": "x"}
    kubernetes_validate.validate(pod, "1.33", strict=True)
    program = Path(job["args"][job["args"].index("-py") + 1])
    assert (PROJECT / program.relative_to("/opt/logcanary")).is_file()


def pods() -> list[dict[str, Any]]:
    found = [one["spec"]["template"]["spec"] for one in MANIFESTS if one["kind"] == "Deployment"]
    found += [one["spec"]["jobTemplate"]["spec"]["template"]["spec"] for one in MANIFESTS if one["kind"] == "CronJob"]
    return [*found, FLINK["spec"]["podTemplate"]["spec"]]


def test_every_pod_is_closed() -> None:
    assert len(pods()) == 5
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        there = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            closed = container["securityContext"]
            assert closed["readOnlyRootFilesystem"] is True
            assert closed["allowPrivilegeEscalation"] is False
            assert closed["capabilities"] == {"drop": ["ALL"]}
            assert {mount["name"] for mount in container["volumeMounts"]} == there
            assert {"configMapRef": {"name": "logcanary-settings"}} in container["envFrom"]
            if container["name"] != "flink-main-container":  # Flink's operator sets these from `resource`
                assert container["resources"]["limits"]["memory"]
                assert find_spec(container["args"][1]), container["args"]


def test_what_manifests_name_is_there() -> None:
    names = {(one["kind"], one["metadata"]["name"]) for one in MANIFESTS}
    assert ("ConfigMap", "logcanary-settings") in names
    assert ("ServiceAccount", FLINK["spec"]["serviceAccount"]) in names
    for pod in pods():
        for volume in pod["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                assert ("PersistentVolumeClaim", claim["claimName"]) in names
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in MANIFESTS if one["kind"] == "Deployment"]
    for one in MANIFESTS:
        if one["kind"] == "Service":
            assert any(one["spec"]["selector"].items() <= each.items() for each in labels)
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yml").read_text())
    assert kustomization.keys() == KustomizationFields
    assert {path.name for path in KUBERNETES.glob("*.yml")} == {*kustomization["resources"], "kustomization.yml"}
    images = {container["image"] for pod in pods()[:-1] for container in pod["containers"]}
    assert images == {one["name"] for one in kustomization["images"]}


def configured(pod: dict[str, Any]) -> dict[str, str]:
    """The environment that a pod's settings come from: the ConfigMap, and the container's own."""
    (data,) = [one["data"] for one in MANIFESTS if one["kind"] == "ConfigMap"]
    (container,) = pod["containers"]
    return data | {one["name"]: one["value"] for one in container.get("env", ())}


def named(pod: dict[str, Any]) -> str:
    return str(pod["containers"][0]["name"])


@pytest.mark.parametrize("pod", pods(), ids=named)
def test_the_settings_are_taken_by_logcanary(pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    data = configured(pod)
    for name, value in data.items():
        assert isinstance(value, str)
        monkeypatch.setenv(name, value)
    settings = AppSettings()  # a misspelt name is an error
    written = {name.removeprefix("LOGCANARY_").lower() for name in data} - {"home"}
    for section, field in (name.split("__") for name in written):
        given = data[f"LOGCANARY_{section}__{field}".upper()]
        assert str(getattr(getattr(settings, section), field)) == given
    assert settings.flink.parallelism == FLINK["spec"]["job"]["parallelism"]
    folders = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert str(Path(settings.kafka.sasl_password_file).parent) in folders
    assert str(Path(settings.kafka.ssl_cafile).parent) in folders
    assert str(settings.home) in folders
    if named(pod) == "flink-main-container":
        assert "/" + settings.flink.checkpoints.removeprefix("file:///").split("/")[0] in folders


def test_the_console_lets_nobody_in_who_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    (pod,) = [pod for pod in pods() if named(pod) == "console"]
    for name, value in configured(pod).items():
        monkeypatch.setenv(name, value)
    web = AppSettings().web
    assert web.host == "0.0.0.0"
    (container,) = pod["containers"]
    (mount,) = [one for one in container["volumeMounts"] if one["mountPath"] == str(Path(web.access_file).parent)]
    assert "subPath" not in mount, "a file that is mounted alone is not changed with its secret"
    services = {one["metadata"]["name"]: one for one in MANIFESTS if one["kind"] == "Service"}
    exporter = urlsplit(web.exporter_url)
    assert exporter.port in {port["port"] for port in services[exporter.hostname or ""]["spec"]["ports"]}
    assert [port["containerPort"] for port in container["ports"]] == [web.console_port]


def test_pods_are_reached_where_a_policy_says_so() -> None:
    """Policies choose pods that there are, and name ports that they listen on."""
    found = [one["spec"]["template"] for one in MANIFESTS if one["kind"] == "Deployment"]
    listening = {
        tuple(sorted(pod["metadata"]["labels"].items())): {
            port["containerPort"] for container in pod["spec"]["containers"] for port in container.get("ports", ())
        }
        for pod in found
    }
    policies = {one["metadata"]["name"]: one["spec"] for one in MANIFESTS if one["kind"] == "NetworkPolicy"}
    assert policies["logcanary-closed"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    for name in ("logcanary-exporter", "logcanary-console"):
        (rule,) = policies[name]["ingress"]
        chosen = tuple(sorted(policies[name]["podSelector"]["matchLabels"].items()))
        assert {port["port"] for port in rule["ports"]} == listening[chosen]
        for asking in rule["from"]:
            if "podSelector" in asking:
                assert tuple(sorted(asking["podSelector"]["matchLabels"].items())) in listening


def test_every_secret_is_in_the_instructions() -> None:
    page = (PROJECT / "docs" / "deployment.md").read_text()
    wanted = {volume["secret"]["secretName"] for pod in pods() for volume in pod["volumes"] if "secret" in volume}
    assert wanted == set(re.findall(r"create secret generic (\S+)", page))


def test_settings_in_the_instructions_are_taken_by_logcanary(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (PROJECT / "docs" / "deployment.md").read_text()
    blocks = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        AppSettings(**tomllib.loads(block))
    variables = re.findall(r"^(LOGCANARY_\w+): (.*)$", page, flags=re.MULTILINE)
    assert len(variables) == 2
    for name, value in variables:
        monkeypatch.setenv(name, value)
    AppSettings()


def test_jars_of_the_operators_image_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes, jar = tmp_path / "classes", tmp_path / "a.jar"
    classes.mkdir()
    (classes / "X.class").write_bytes(b"x")
    jar.write_bytes(b"jar")
    monkeypatch.setattr(cluster, "own_class_path", lambda _: [classes, jar])
    out = tmp_path / "lib"
    out.mkdir()
    written = image.copy_jars(out)
    assert written == sorted(out.iterdir())
    assert [path.name for path in written] == ["00-logcanary.jar", "01-a.jar"]
    assert zipfile.ZipFile(written[0]).namelist() == ["X.class"]
