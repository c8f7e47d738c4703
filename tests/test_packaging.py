"""What is installed is what is declared, wherever it is declared, and is there for something."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIRED = [*PROJECT["dependencies"], *(pin for pins in EXTRAS.values() for pin in pins)]
# Distributions whose modules are called otherwise.
IMPORTED_AS = {
    "netgen-mesher": "netgen",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-fem": "skfem",
    "scikit-learn": "sklearn",
    "xgboost-cpu": "xgboost",
}
# No code of ours imports these.
USED_OTHERWISE = {
    "hatchling": "builds the wheel",
    "librosa": "pytest.importorskip",
    "snntorch": "pytest.importorskip",
    "h5py": "meshio reads .med and .xdmf with it",
    "pandas-stubs": "mypy reads it",
    "types-pyyaml": "mypy reads it",
    "latex2mathml": "docs/site.py",
    "mkdocs-material": "mkdocs build",
    "mkdocstrings-python": "mkdocs build",
    "import-linter": "a program",
    "mypy": "a program",
    "ruff": "a program",
    "snakefmt": "a program",
    "playwright": "pytest.importorskip",
    "pytest-xdist": "pytest -n",
    "snakemake-executor-plugin-slurm": "snakemake --executor slurm",
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str]) -> dict[str, str]:
    split = [line.split("==") for line in lines if line.strip() and not line.startswith("#")]
    return {normal(name): number for name, number in split}


@pytest.mark.parametrize(
    ("file", "extras"),
    [("spinmesh.yaml", ["mesher"]), ("workflow.yaml", ["workflow", "slurm", "dev"])],
)
def test_conda_environment_pins_what_the_package_pins(file: str, extras: list[str]) -> None:
    required = [*PROJECT["dependencies"], *(pin for extra in extras for pin in EXTRAS[extra])]
    listed = yaml.safe_load((ROOT / "envs" / file).read_text())["dependencies"]
    assert pins(next(part["pip"] for part in listed if isinstance(part, dict))) == pins(required)


def test_every_requirement_is_exact_constrained_and_installed() -> None:
    """At one version. A local one such as 2.13.0+cpu is on no index, so none is named."""
    text = (ROOT / "constraints.txt").read_text()
    assert "+" not in text.split('"+cpu"')[-1]
    constraints = pins(text.splitlines())
    for name, number in pins(REQUIRED).items():
        assert constraints[name] == number, name
        if name not in pins([*EXTRAS["slurm"], *EXTRAS["oracles"], *EXTRAS["docs"]]):
            assert version(name).split("+")[0] == number, name


def test_every_requirement_is_imported_somewhere() -> None:
    folders = ("src", "tests", "workflow", "experiments")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    pattern = re.compile(r"(?:^\s*(?:import|from)\s+|import_module\(\")(\w+)", re.M)
    modules = {module for path in files for module in pattern.findall(path.read_text())}
    unused = {name for name in pins(REQUIRED) if IMPORTED_AS.get(name, name) not in modules}
    assert unused == set(USED_OTHERWISE)


def test_the_wheel_is_built_by_the_backend_that_is_tested() -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert set(requires) <= set(EXTRAS["dev"])


@pytest.mark.slow
def test_a_wheel_works_without_the_repository(tmp_path: Path) -> None:
    """Built from the source archive, installed by pip into an empty environment; all packages but
    spinmesh are those of this environment. It simulates a sphere and lays out a run folder."""

    def run(*words: str | Path, cwd: Path = tmp_path) -> str:
        done = subprocess.run(
            words, cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run(sys.executable, "-m", "hatchling", "build", "-d", tmp_path, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    assert len(list(tmp_path.glob("*.tar.gz"))) == 1
    assert wheel.stat().st_size < 2e6
    run(sys.executable, "-m", "venv", "--without-pip", "empty")
    python = tmp_path / "empty/bin/python"
    run(*(sys.executable, "-m", "pip", "--python", python), "install", "--no-deps", "-q", wheel)
    home = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (home / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    where = run(python, "-c", "import spinmesh; print(spinmesh.__file__)")
    assert where.startswith(str(tmp_path)), where
    run(tmp_path / "empty/bin/spinmesh", "init", "study")
    demo = "config/demo"
    protocol = f"--bvals {demo}/tian2022.bval --bvecs {demo}/tian2022.bvec --delta 8 --Delta 40"
    command = ["spinmesh", "simulate", f"{demo}/sphere.vtu", *protocol.split(), "--out", "s.csv"]
    command[0] = str(tmp_path / "empty/bin/spinmesh")
    assert "194 signals of config/demo/sphere.vtu" in run(*command, cwd=tmp_path / "study")
    planned = run(command[0], "run", "--dry-run", cwd=tmp_path / "study")
    assert re.search(r"^simulate_shard +2$", planned, re.MULTILINE), planned


def test_setup_names_no_folder_of_one_machine() -> None:
    folder = re.compile(r"(?<![\w$})!])/(opt|home|usr|work|root|tmp)/")
    for file in ("Makefile", ".ci/run", "pyproject.toml", "constraints.txt"):
        assert not folder.search((ROOT / file).read_text()), file
