"""The house itself: what the documents promise, what the wheel holds, what the containers run."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path
from typing import TypeGuard

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from pipelines.cli.exits import USAGE
from pipelines.engine import CONTROL_TASKS
from pipelines.rollout import KINDS, STAGES
from tasks.cluster import Cluster
from tasks.steps.registry import STEPS
from tests.places import DOCS, ROOT
from workers import errors
from workers.errors import EsyncError
from workers.host.memory import SMALL_CACHES
from workers.records import Verdict

_LOCKED = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[^\s;]+)(?: ; [^\\\n/:]+)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n"
)
README = (ROOT / "README.md").read_text()
OPERATION = (DOCS / "operating.md").read_text()


def test_the_readme_shows_the_stages() -> None:
    """The table of the README has the stages of the code, in order, with their steps."""
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]*) \|", README, re.MULTILINE)
    assert [(stage.name, [step.name for step in stage.steps]) for stage in STAGES] == [
        (name, re.findall(r"`(\w+)`", steps)) for name, steps in rows
    ]


def test_every_step_of_a_stage_is_registered() -> None:
    """A step that no worker serves would hang its chord forever."""
    assert {step.name for kind in KINDS.values() for step in kind.steps().values()} <= STEPS.keys()


def test_the_readme_shows_every_exit_code() -> None:
    """Each exit code has a line: those of the verdicts, of refusals and of usage errors."""
    shown = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    assert {verdict.exit_code for verdict in Verdict} | {1, USAGE} == shown


def test_the_readme_walks_through_the_shipped_cluster_file() -> None:
    """The excerpt in the README and lab/cluster.yaml describe the same cluster, apart from policy and syncs."""
    block = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert block is not None
    yaml = YAML(typ="safe")
    excerpt = Cluster.model_validate(yaml.load(block[1]))
    shipped = Cluster.model_validate(yaml.load((ROOT / "lab" / "cluster.yaml").read_text()))
    apart = {name: getattr(excerpt, name) for name in ("policy", "site_login", "sync")}
    assert excerpt == shipped.model_copy(update=apart)


@pytest.mark.parametrize("document", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=str)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    """Every relative link names a file that is there."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
    assert [] == [link for link in links if not (document.parent / link).exists()]


TOUR = (DOCS / "README.md").read_text()


def test_the_tour_names_files_that_are_there() -> None:
    """Every file and folder that the five-minute tour names exists."""
    paths = re.findall(r"`((?:pipelines|tasks|workers|lab)/[\w./]*)`", TOUR)
    assert len(paths) > 40
    assert [] == [path for path in paths if path != "pipelines/web/" and not (ROOT / path).exists()]


def test_the_tour_has_every_room_with_its_own_sentence() -> None:
    """The table of rooms and the first sentence of each room's `__init__` are the same."""
    shown = dict(re.findall(r"^\| `([\w/]+)/` \| (.*) \|$", TOUR, re.MULTILINE))
    rooms = {
        str(init.parent.relative_to(ROOT)): ast.get_docstring(ast.parse(init.read_text())) or ""
        for package in ("pipelines", "tasks", "workers", "lab")
        for init in (ROOT / package).rglob("__init__.py")
    }
    assert {room: text.partition("\n\n")[0] for room, text in rooms.items()} == shown


@pytest.mark.parametrize(("package", "most"), [("pipelines", 12), ("tasks", 12), ("workers", 8), ("lab", 12)])
def test_no_chain_of_imports_is_long(package: str, most: int) -> None:
    """Modules of one package, each importing the next."""
    graph = grimp.build_graph(package, cache_dir=None)

    @cache
    def below(module: str) -> int:
        return 1 + max(map(below, graph.find_modules_directly_imported_by(module)), default=0)

    longest = max(graph.modules, key=below)
    assert below(longest) <= most, longest


def test_the_error_tree_is_drawn_whole() -> None:
    """Slugs are unique, every error says what it is, and the drawing at the top of the module has them all."""
    found: list[type[EsyncError]] = []
    waiting = [EsyncError]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += [child for child in one.__subclasses__() if child.__module__ == errors.__name__]
    assert len({one.slug for one in found}) == len(found)
    assert all(one.__doc__ for one in found)
    drawn = set(re.findall(r"[|`]-- (\w+)", errors.__doc__ or "")) | {"EsyncError"}
    assert {one.__name__ for one in found} == drawn


def test_the_wheel_has_what_it_needs(tmp_path: Path) -> None:
    """Built from the sources, the wheel holds every module and data file of the packages, and no test."""
    source = tmp_path / "source"
    packages = ("pipelines", "tasks", "workers", "lab")
    for package in packages:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert set() == wanted - inside
    assert {name.split("/")[0] for name in inside if ".dist-info" not in name} == set(packages)


class TestContainers:
    """docker/ as far as it can be judged without an engine."""

    compose = YAML(typ="safe").load((ROOT / "docker" / "compose.yaml").read_text())
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()

    def test_the_services_are_there(self) -> None:
        """Broker, worker, window, page, lab, and the one-shot that rolls out."""
        assert {"redis", "worker", "flower", "lab", "serve", "rollout"} == self.compose["services"].keys()

    def test_no_secret_is_in_a_command_or_in_the_file(self) -> None:
        """Passwords come from the environment file and go in by environment or stdin, never as arguments."""
        for name, service in self.compose["services"].items():
            command = " ".join(service["command"])
            assert "${ESYNC" not in command, name
        assert not re.search(r"(?i)password[:=] *[^$\s{]", (ROOT / "docker" / "env.example").read_text())

    def test_ports_are_on_loopback(self) -> None:
        """Nothing but Flower and the page is published, and those on loopback only."""
        ports = [port for service in self.compose["services"].values() for port in service.get("ports", [])]
        assert ["127.0.0.1:5555:5555", "127.0.0.1:8470:8470"] == sorted(ports)

    def test_the_broker_keeps_what_it_is_told(self) -> None:
        """Append-only file, no eviction, a password."""
        command = " ".join(self.compose["services"]["redis"]["command"])
        assert all(word in command for word in ("appendonly yes", "maxmemory-policy noeviction", "requirepass"))

    def test_the_worker_serves_every_queue_with_a_process_per_core(self) -> None:
        """It is the worker of `esync up`, without options: a run would never end if no worker served a queue."""
        worker = self.compose["services"]["worker"]
        assert ["python", "-m", "pipelines.local.celery_worker"] == worker["command"]
        assert SMALL_CACHES.items() <= worker["environment"].items()
        assert all(f"Environment={name}={value}\n" in OPERATION for name, value in SMALL_CACHES.items())
        assert {"replicas": "${ESYNC_WORKERS:-2}"} == worker["deploy"]

    def test_the_image_is_unprivileged_and_built_in_two_stages(self) -> None:
        """A build stage, then a plain user."""
        assert self.dockerfile.count("\nFROM ${PYTHON_IMAGE}") == self.dockerfile.count("\nFROM ") == 2
        assert re.search(r"^USER esync$", self.dockerfile, re.MULTILINE)
        assert all(service.get("user") != "root" for service in self.compose["services"].values())

    def test_volumes_belong_to_the_images_user(self) -> None:
        """A folder that a volume is mounted on is made for the image's user: a new volume takes over its owner."""
        ours = [service for service in self.compose["services"].values() if "build" in service]
        folders = {volume.split(":")[1] for service in ours for volume in service.get("volumes", [])}
        made = self.dockerfile.partition("\nUSER esync\n")[0].rpartition("\nFROM ")[2]
        assert {"/clusters"} == folders
        assert all(f"install --directory --owner esync --group esync --mode 0700 {one}\n" in made for one in folders)

    def test_the_state_folder_belongs_to_the_images_user(self) -> None:
        """The file system in memory on the home folder names the uid of the image's user; without one root owns it."""
        user = re.search(r"useradd --system --uid (\d+) --create-home --home-dir (\S+) esync", self.dockerfile)
        assert user is not None
        for name in ("worker", "flower", "serve", "rollout"):
            assert f"{user[2]}:uid={user[1]},mode=0700" in self.compose["services"][name]["tmpfs"], name

    def test_images_are_pinned_by_digest(self) -> None:
        """What is not built here is named by tag and digest, each in one place."""
        images = [service["image"] for service in self.compose["services"].values() if "build" not in service]
        images += re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", self.dockerfile, re.MULTILINE)
        assert len(images) == 2
        assert [] == [image for image in images if not re.fullmatch(r"[\w/]+:[\w.-]+@sha256:[0-9a-f]{64}", image)]

    def test_each_service_gets_what_it_needs(self) -> None:
        """Only those that open sealed material get the seal key, and only Flower its password."""
        given = {name: set(service.get("environment", {})) for name, service in self.compose["services"].items()}
        assert {"worker", "serve", "rollout"} == {name for name, names in given.items() if "ESYNC_SEAL_KEY" in names}
        assert {"flower"} == {name for name, names in given.items() if "FLOWER_BASIC_AUTH" in names}
        assert {"ESYNC_BROKER_URL", "FLOWER_PORT", "FLOWER_BASIC_AUTH"} == given["flower"]
        assert set() == given["lab"]

    def test_no_service_may_more_than_it_must(self) -> None:
        """Read-only, without capabilities, without ways to more rights."""
        for name, service in self.compose["services"].items():
            assert (True, ["ALL"]) == (service["read_only"], service["cap_drop"]), name
            assert ["no-new-privileges:true"] == service["security_opt"], name

    def test_the_image_copies_what_exists(self) -> None:
        """Every source of a COPY is in the repository."""
        sources = re.findall(r"^COPY (?!--from)(.+) \S+$", self.dockerfile, re.MULTILINE)
        assert [] == [name for line in sources for name in line.split() if not (ROOT / name).exists()]


@pytest.mark.parametrize(("file", "extra"), [("locked-dev.txt", "dev"), ("locked-image.txt", "image")])
def test_the_lock_files_agree_with_the_project(file: str, extra: str) -> None:
    """Every direct dependency is locked within its range, each package has hashes, and nothing names a host."""
    text = (ROOT / "docker" / file).read_text()
    entries = list(_LOCKED.finditer(text))
    assert text == "".join(entry[0] for entry in entries)
    locked = {entry["name"]: entry["version"] for entry in entries}
    wanted = _requirements(extra)
    assert len(wanted) > 18
    assert [] == [
        str(one) for one in wanted if not one.specifier.contains(locked.get(canonicalize_name(one.name), "0"))
    ]
    assert {"setuptools"} <= locked.keys()


def _requirements(extra: str) -> list[Requirement]:
    """What the project asks for with that extra, extras of its own resolved."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found, waiting = [], [*project["dependencies"], *project["optional-dependencies"][extra]]
    while waiting:
        one = Requirement(waiting.pop())
        if one.name == project["name"]:
            waiting += [text for own in one.extras for text in project["optional-dependencies"][own]]
        else:
            found.append(one)
    return found


def test_bash_can_read_what_ci_runs() -> None:
    """A slip in `.ci/run` is found before the tests are skipped by it; it calls `make check`."""
    script = ROOT / ".ci" / "run"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert script.read_text().endswith("\nmake check\n")


def test_control_tasks_are_served() -> None:
    """Every task that is routed to the control queue is one of the worker's."""
    source = (ROOT / "pipelines" / "worker.py").read_text()
    assert set(CONTROL_TASKS) == set(re.findall(r'name="(esync\.\w+)"', source))


def test_no_regular_expression_needs_a_newer_python() -> None:
    """Possessive quantifiers and atomic groups find too little in Python 3.11.0 to 3.11.2, which Debian 12 ships."""
    files = [path for root in ("pipelines", "tasks", "workers", "lab") for path in (ROOT / root).rglob("*.py")]
    calls = [(path, node) for path in files for node in ast.walk(ast.parse(path.read_text())) if _is_of_re(node)]
    assert len(calls) > 30
    newer = re.compile(r"[*+?}]\+|\(\?>")
    in_brackets_or_escaped = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, node in calls
        for text in ast.walk(node)
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
        if newer.search(in_brackets_or_escaped.sub("x", text.value))
    ]
    assert found == []


def _is_of_re(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re.")
