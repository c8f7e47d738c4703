"""What is installed is what is declared, wherever it is declared."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIRED = [*PROJECT["dependencies"], *(pin for pins in EXTRAS.values() for pin in pins)]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str]) -> dict[str, str]:
    split = [line.split("==") for line in lines if line.strip() and not line.startswith("#")]
    return {normal(name): number for name, number in split}


def conda_pins(name: str) -> dict[str, str]:
    listed = yaml.safe_load((ROOT / "envs" / name).read_text())["dependencies"]
    return pins(next(entry["pip"] for entry in listed if isinstance(entry, dict)))


@pytest.mark.parametrize(
    ("file", "extras"),
    [("spinmesh.yaml", ["mesher", "viz"]), ("workflow.yaml", ["workflow", "slurm", "dev"])],
)
def test_conda_environment_pins_what_the_package_pins(file: str, extras: list[str]) -> None:
    wanted = [*PROJECT["dependencies"], *(pin for extra in extras for pin in EXTRAS[extra])]
    assert conda_pins(file) == pins(wanted)


def test_every_requirement_is_exact_and_constrained_to_the_same_version() -> None:
    constraints = pins((ROOT / "constraints.txt").read_text().splitlines())
    for name, number in pins(REQUIRED).items():
        assert constraints[name] == number, name


def test_constraints_name_no_build_of_torch() -> None:
    """A local version such as 2.13.0+cpu is on no index, so a normal machine could not install."""
    assert "+" not in (ROOT / "constraints.txt").read_text().split('"+cpu"')[-1]


@pytest.mark.parametrize("pin", [*PROJECT["dependencies"], *EXTRAS["workflow"], *EXTRAS["dev"]])
def test_installed_version_is_the_pinned_one(pin: str) -> None:
    name, number = pin.split("==")
    assert version(name).split("+")[0] == number


def test_setup_names_no_folder_of_one_machine() -> None:
    folder = re.compile(r"(?<![\w$})!])/(opt|home|usr|work|root|tmp)/")
    for file in ("Makefile", ".ci/run", "pyproject.toml", "constraints.txt"):
        assert not folder.search((ROOT / file).read_text()), file
