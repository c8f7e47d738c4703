"""What is installed is what is declared, wherever it is declared, and is there for something."""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from spinmesh.cli.doctor import LIBRARIES
from spinmesh.cli.running import PARTS

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
    "snakemake-storage-plugin-s3": "snakemake --default-storage-provider s3",
    "flask": "moto's server",
    "flask-cors": "moto's server",
}


def run_folder_parts() -> tuple[str, ...]:
    """What `spinmesh init` lays out, by the command, and by the hook that builds the wheel."""
    hook = (ROOT / "hatch_build.py").read_text()
    parts: tuple[str, ...] = ast.literal_eval(re.findall(r"^PARTS = (.*)$", hook, re.M)[0])
    assert sorted(parts) == sorted(PARTS)
    return parts


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


def test_other_files_of_set_up_say_what_pyproject_says() -> None:
    """One Python everywhere, extras that exist, and of the citation the words of the package."""
    environments = [yaml.safe_load(file.read_text()) for file in (ROOT / "envs").glob("*.yaml")]
    pythons = {environment["dependencies"][0] for environment in environments}
    pixi = tomllib.loads((ROOT / "pixi.toml").read_text())
    container = (ROOT / "Containerfile").read_text()
    (wanted,) = re.findall(r"^FROM python:([\d.]+)-slim$", container, re.MULTILINE)
    assert pythons == {f"python={wanted}"} and pixi["dependencies"]["python"] == f"{wanted}.*"
    assert PROJECT["requires-python"] == f">={wanted}"
    ours = pixi["pypi-dependencies"].pop("spinmesh")
    assert not pixi["pypi-dependencies"] and set(ours["extras"]) <= set(EXTRAS)
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', container)
    assert set(extras.split(",")) <= set(EXTRAS)
    copied = set(" ".join(re.findall(r"^COPY (.*) \S+$", container, re.MULTILINE)).split())
    assert all((ROOT / name).exists() for name in copied)
    assert copied >= {*run_folder_parts(), "src", "pyproject.toml", PROJECT["readme"]}
    assert LIBRARIES in container
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    for ours, theirs in {"title": "name", "abstract": "description"}.items():
        assert citation[ours] == PROJECT[theirs]
    for key in ("version", "license", "authors", "keywords"):
        assert citation[key] == PROJECT[key]


def test_flags_for_the_catalogue_of_workflows_are_true() -> None:
    """What https://snakemake.github.io/snakemake-workflow-catalog offers to users."""
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    rules = "\n".join(path.read_text() for path in (ROOT / "workflow").rglob("*.smk"))
    container = bool(re.search(r"^ *container(ized)?:", rules, re.MULTILINE))
    deployment = {"conda": "made.conda_env =" in rules, "apptainer": container}
    assert usage["software-stack-deployment"] == deployment | {"apptainer+conda": container}
    assert usage["report"] == ("report(" in rules)
    assert usage["mandatory-flags"]["flags"] == ""
    assert (ROOT / "config/README.md").is_file() and (ROOT / "workflow/Snakefile").is_file()


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
    build = (sys.executable, "-m", "hatchling", "build", "-d", tmp_path, "-t")
    run(*build, "sdist", cwd=ROOT)
    (archive,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path, filter="data")
    run(*build, "wheel", cwd=tmp_path / archive.name.removesuffix(".tar.gz"))
    (wheel,) = tmp_path.glob("*.whl")
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
