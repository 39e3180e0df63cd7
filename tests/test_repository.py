"""What a visitor sees holds: the README, the requirements, the compose file, the notebook, the demo."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient
from packaging.requirements import Requirement
from packaging.version import Version
from PIL import Image
from typer.main import get_command

from pipelines import cli, demo
from tests.face_pictures import album
from utilities.backbones import BACKBONES
from utilities.drawn_images import CATEGORIES, draw_tree
from utilities.settings import ENVIRONMENT_VARIABLES

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text()


def requirements() -> list[Requirement]:
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_every_command_has_help_and_stands_in_the_readme() -> None:
    commands = dict(get_command(cli.app).commands)  # type: ignore[attr-defined]
    commands |= {f"compare {name}": command for name, command in commands.pop("compare").commands.items()}
    for name, command in commands.items():
        assert command.help, name
        assert f"`lookalike {name}" in README, name
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name}"


def test_every_make_target_stands_in_its_help() -> None:
    shown = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    for target in ("help", "setup", "demo", "test", "soak", "lint", "bench", "milvus-up", "milvus-down"):
        assert re.search(rf"make {target} ", shown), target


def test_the_readme_names_every_backbone_and_every_variable() -> None:
    for name in [*BACKBONES, *ENVIRONMENT_VARIABLES.values()]:
        assert f"`{name}`" in README, name


def test_the_readmes_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (REPOSITORY / target).exists(), target


def test_requirements_have_a_lower_bound_and_an_upper_bound_on_the_major_version() -> None:
    for requirement in requirements():
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators == {">=", "<"}, requirement
        assert requirement.specifier.contains(version(requirement.name)), requirement


def test_server_and_client_have_the_same_minor_version() -> None:
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
    server = Version(compose["services"]["milvus"]["image"].rsplit(":v")[1])
    assert server.release[:2] == Version(version("pymilvus")).release[:2]
    for service in compose["services"].values():
        assert "healthcheck" in service
        named = set(compose["volumes"])
        sources = {volume.split(":")[0] for volume in service["volumes"]}
        assert {source for source in sources if not source.startswith("${")} <= named
        waits = service.get("depends_on", {}).values()
        assert {wait["condition"] for wait in waits} <= {"service_healthy"}


def test_the_served_image_is_started_with_options_that_there_are() -> None:
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
    known = {option for each in get_command(cli.app).commands["serve"].params for option in each.opts}  # type: ignore[attr-defined]
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    by_itself = json.loads(re.findall(r"^CMD (.+)$", dockerfile, re.MULTILINE)[-1])
    for command in (by_itself, compose["services"]["serve"]["command"]):
        assert command[:2] == ["lookalike", "serve"]
        assert {each for each in command if each.startswith("--")} <= known
    copied = re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE)
    carried = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {name for names in copied for name in names.split()} == carried
    for variable in set(compose["services"]["serve"]["environment"]):
        assert variable in ENVIRONMENT_VARIABLES.values()


def test_the_package_carries_the_page() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text()
    packages, files = (re.search(rf"^{each} = (.+)$", project, re.MULTILINE) for each in ("packages", "package-data"))
    assert packages
    assert files
    folders = {".".join(file.relative_to(REPOSITORY).parent.parts) for file in (REPOSITORY / "utilities").rglob("*.py")}
    assert folders | {"pipelines"} == set(json.loads(packages[1]))
    assert '"utilities.web" = ["page/*"]' in files[1]
    assert (REPOSITORY / "utilities/web/page/index.html").exists()


def test_the_drawn_tree_is_the_same_every_time(tmp_path: Path) -> None:
    assert len(CATEGORIES) >= 12
    for name in ("one", "two"):
        assert draw_tree(tmp_path / name, per_category=2) == 2 * len(CATEGORIES)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.jpg"))
    assert len(files) == 2 * len(CATEGORIES)
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.fixture
def small_tree(tmp_path: Path) -> Path:
    draw_tree(tmp_path / "images", per_category=2)
    return tmp_path / "images"


def test_the_demo_falls_back_to_random_weights_and_says_so(small_tree: Path, tmp_path: Path, networks: Path) -> None:
    (tmp_path / "demo/data").mkdir(parents=True)
    (tmp_path / "demo/data/networks").symlink_to(networks)
    result = subprocess.run(
        [Path(sys.executable).with_name("lookalike"), "demo", "--images", small_tree, "--backbone", "mobilenetv2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        # No proxy answers there, as on a machine without internet; and no weights lie in an empty home.
        env={**os.environ, "https_proxy": "http://127.0.0.1:1", "KERAS_HOME": str(tmp_path / "keras")},
    )
    assert "goes on with random weights" in result.stderr
    assert "NOTE: the network is untrained (--weights random): results see colour and texture only" in result.stdout
    assert result.stdout.splitlines()[-2].split()[0] == "20"
    with Image.open(tmp_path / demo.OUTPUT / "top20.png") as picture:
        assert picture.width > 800


@pytest.mark.parametrize("notebook", sorted((REPOSITORY / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_notebook_runs(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    of_faces = notebook.stem == "7_faces"
    tree = album(request.getfixturevalue("lfw"), tmp_path / "album") if of_faces else tmp_path / "images"
    if not of_faces:
        draw_tree(tree, per_category=3)
    (tmp_path / "home").mkdir()
    networks = request.getfixturevalue("face_networks" if of_faces else "networks")
    (tmp_path / "home/networks").symlink_to(networks)
    monkeypatch.setenv("LOOKALIKE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IMAGES", str(tree))
    monkeypatch.setenv("BACKBONE", "mobilenetv2")
    monkeypatch.setenv("WEIGHTS", "random")
    monkeypatch.setenv("BACKBONES", "mobilenetv2=random")
    monkeypatch.setenv("REPORTS", str(tmp_path / "reports"))
    content = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    committed = [output for cell in content.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in committed), "committed without its pictures"
    assert notebook.stat().st_size < 1_000_000
    NotebookClient(content, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in content.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
