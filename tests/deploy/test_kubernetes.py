"""deploy/kubernetes: what kustomize makes of it, against the schemas of Kubernetes and against each other."""

import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml
from plugins.deploy_parts import DEPLOY, Manifests

Built = Callable[[str], Manifests]
FOLDERS = ["base", "run", "scheduled", "results"]
VERSIONS = ["1.30.0", "1.37.0"]
"""The oldest supported version, and the newest with schemas."""
NAME = "app.kubernetes.io/name"
COMPONENT = "app.kubernetes.io/component"


def pods(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pods of a manifest, as templates: metadata and spec."""
    match manifest["kind"]:
        case "Pod":
            yield manifest
        case "Job":
            yield manifest["spec"]["template"]
        case "CronJob":
            yield manifest["spec"]["jobTemplate"]["spec"]["template"]


@pytest.fixture(scope="module")
def everything(built: Built) -> Manifests:
    """All manifests of all folders."""
    return [manifest for folder in FOLDERS for manifest in built(folder)]


@pytest.fixture(scope="module")
def all_pods(everything: Manifests) -> list[dict[str, Any]]:
    """All pods of all folders."""
    found = [pod for manifest in everything for pod in pods(manifest)]
    assert len(found) == 4
    return found


def named(manifests: Manifests, kind: str, name: str) -> dict[str, Any]:
    """The one manifest of this kind and name."""
    (found,) = [each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_schemas_hold(everything: Manifests, version: str) -> None:
    """Strictly: a key that Kubernetes does not know is refused, not ignored."""
    for manifest in [*everything, example_secret()]:
        kubernetes_validate.validate(manifest, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**everything[0], "spek": {}}, version, strict=True)


def example_secret() -> dict[str, Any]:
    """secret.example.yaml."""
    return yaml.safe_load((DEPLOY / "kubernetes/secret.example.yaml").read_text(encoding="utf-8"))


def test_pods_are_restricted(all_pods: list[dict[str, Any]]) -> None:
    """Pods meet the Pod Security Standard of that name, and their root file system is read-only."""
    for pod in all_pods:
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec["automountServiceAccountToken"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert all(not {"hostPath"} & set(volume) for volume in spec["volumes"])
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"]


def test_pods_say_what_they_need(all_pods: list[dict[str, Any]]) -> None:
    """CPU and memory, as much of the latter as may be used; time to end, where there is something to end."""
    for pod in all_pods:
        (container,) = pod["spec"]["containers"]
        resources = container["resources"]
        assert resources["requests"]["memory"] == resources["limits"]["memory"]
        assert "cpu" in resources["requests"]
        if "args" in container:
            assert pod["spec"]["terminationGracePeriodSeconds"] >= 60


def test_load_is_never_repeated_by_itself(everything: Manifests) -> None:
    """Jobs with a verdict as exit code run once and have a deadline; so do workers without a master."""
    master = named(everything, "Job", "loadtest-master")["spec"]
    nightly = named(everything, "CronJob", "loadtest-nightly")["spec"]
    workers = named(everything, "Job", "loadtest-workers")["spec"]
    assert master["backoffLimit"] == nightly["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert nightly["concurrencyPolicy"] == "Forbid"
    assert all(job["activeDeadlineSeconds"] > 0 for job in (master, nightly["jobTemplate"]["spec"], workers))


def test_keys_come_from_the_secret_and_from_nowhere_else(all_pods: list[dict[str, Any]], everything: Manifests) -> None:
    """By reference, under the names that the example has; no Secret is among what is applied."""
    assert not [manifest for manifest in everything if manifest["kind"] == "Secret"]
    example = example_secret()
    assert set(example["stringData"].values()) == {"replace-me"}
    for pod in all_pods:
        (container,) = pod["spec"]["containers"]
        if "args" not in container:
            assert "env" not in container
            continue
        assert [each["name"] for each in container["env"]] == list(example["stringData"])
        for each in container["env"]:
            reference = {"name": example["metadata"]["name"], "key": each["name"]}
            assert each["valueFrom"] == {"secretKeyRef": reference}


def test_what_pods_mount_is_there(all_pods: list[dict[str, Any]], everything: Manifests) -> None:
    """Claims, maps and the files in them; every volume is mounted, and every mount has its volume."""
    for pod in all_pods:
        (container,) = pod["spec"]["containers"]
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                named(everything, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
            if "configMap" in volume:
                files = named(everything, "ConfigMap", volume["configMap"]["name"])["data"]
                (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == volume["name"]]
                assert mount["subPath"] in files


def test_workers_find_their_master(everything: Manifests) -> None:
    """The expected number of workers, and only these, by the service's name and port, through the network policies."""
    (master,) = pods(named(everything, "Job", "loadtest-master"))
    jobs = named(everything, "Job", "loadtest-workers")["spec"]
    (worker,) = pods(named(everything, "Job", "loadtest-workers"))
    arguments = master["spec"]["containers"][0]["args"]
    assert int(arguments[arguments.index("--expect-workers") + 1]) == jobs["completions"] == jobs["parallelism"]

    service = named(everything, "Service", "loadtest-master")
    (port,) = service["spec"]["ports"]
    assert worker["spec"]["containers"][0]["args"][-1] == f"{service['metadata']['name']}:{port['port']}"
    assert service["spec"]["selector"] == master["metadata"]["labels"]
    (opened,) = master["spec"]["containers"][0]["ports"]
    assert opened["name"] == port["targetPort"]
    assert arguments[arguments.index("--bind") + 1] == f"0.0.0.0:{opened['containerPort']}"

    (way_in,) = named(everything, "NetworkPolicy", "loadtest-master")["spec"]["ingress"]
    (way_out,) = named(everything, "NetworkPolicy", "loadtest-worker")["spec"]["egress"]
    assert way_in["from"] == [{"podSelector": {"matchLabels": worker["metadata"]["labels"]}}]
    assert way_out["to"] == [{"podSelector": {"matchLabels": master["metadata"]["labels"]}}]
    ports = [{"protocol": "TCP", "port": opened["containerPort"]}]
    assert way_in["ports"] == way_out["ports"] == ports


def test_all_pods_are_behind_the_fence(all_pods: list[dict[str, Any]], everything: Manifests) -> None:
    """One policy selects all pods, blocks ingress, and allows egress only to DNS and the service under load."""
    policy = named(everything, "NetworkPolicy", "loadtest")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy
    assert all(policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items() for pod in all_pods)
    blocks = [to["ipBlock"]["cidr"] for rule in policy["egress"] for to in rule["to"] if "ipBlock" in to]
    assert blocks == ["192.0.2.0/24"]


def test_all_pods_run_the_image_of_this_version(all_pods: list[dict[str, Any]]) -> None:
    """The registry is named in one place; the tag is the version that is here."""
    version = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    images = {container["image"] for pod in all_pods for container in pod["spec"]["containers"]}
    assert images == {f"registry.example/workflow-loadtest:{version}"}
    policies = {each.get("imagePullPolicy") for pod in all_pods for each in pod["spec"]["containers"] if "args" in each}
    assert policies == {"Always"}
    assert {pod["metadata"]["labels"][NAME] for pod in all_pods} == {"loadtest"}
    assert len({pod["metadata"]["labels"][COMPONENT] for pod in all_pods}) == 4
