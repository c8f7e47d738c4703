"""A result is made again when its code or its configuration changes, and only then."""

import ast
import shutil
from functools import cache
from pathlib import Path

import pytest

from spinmesh import provenance
from spinmesh.provenance import code_digest, config_digest, modules_behind

ROOT = Path(__file__).parents[1]


def stages() -> dict[str, tuple[str, ...]]:
    """The modules of each stage, as the workflow lists them."""
    text = (ROOT / "workflow/rules/settings.smk").read_text()
    table: dict[str, tuple[str, ...]] = ast.literal_eval(
        text.partition("\nCODE = ")[2].partition("\n}\n")[0] + "}"
    )
    return table


CODE = stages()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package whose files a test may edit; digests are taken of it."""
    copy = tmp_path / "spinmesh"
    shutil.copytree(ROOT / "src/spinmesh", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "__file__", str(copy / "provenance.py"))
    return copy


@cache
def unedited() -> dict[str, str]:
    """Digests of the sources as they are, which a fresh copy shares: they are of the texts."""
    return digests()


def digests() -> dict[str, str]:
    return {stage: code_digest(modules) for stage, modules in CODE.items()}


def changed(before: dict[str, str]) -> set[str]:
    return {stage for stage, digest in digests().items() if digest != before[stage]}


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_comments_docstrings_and_layout_do_not_count(source: Path) -> None:
    before = unedited()
    append(source / "mesh/tetmesh.py", "\n\n# why, never what\n\n\n")
    for path in source.rglob("*.py"):
        append(path, '\n"""A page of documentation."""\n')
    quoted = source / "inversion/gauss_newton.py"
    text = quoted.read_text()
    quoted.write_text(text.replace('"""At', '"""Not at').replace('"""How', '"""Indeed, how'))
    assert quoted.read_text() != text
    assert changed(before) == set()


STAGES = {"mesh", "simulate", "target", "reconstruct", "synthesise"}
# Asked for by name, on demand: their own stages and figures.
ON_DEMAND = {"voxels", "bundles", "phantom", "scores", "conditional"}
FIGURES = {
    "plot_meshes",
    "plot_signals",
    "plot_reconstruction",
    "plot_synthesis",
    "plot_phantom",
    "plot_scores",
    "plot_conditional",
}


@pytest.mark.parametrize(
    ("file", "users"),
    [
        # A stage's own files change that stage and what draws or scores its results.
        ("inversion/gauss_newton.py", {"reconstruct"}),
        ("inversion/pose.py", {"reconstruct"}),
        ("inversion/sensitivity.py", {"reconstruct"}),
        ("inversion/__init__.py", {"reconstruct"}),
        ("inversion/shape_model.py", {"reconstruct"}),
        ("inversion/spectral.py", {"reconstruct"}),
        ("inversion/metrics.py", {"reconstruct"}),
        ("io/reconstructions.py", {"reconstruct"}),
        ("synthesis/__init__.py", {"synthesise"}),
        ("images/packing.py", {"synthesise"}),
        ("synthesis/targets.py", {"synthesise"}),
        ("mesh/template.py", {"mesh"}),
        ("mesh/solids.py", {"mesh"}),
        ("settings/mesh.py", {"mesh"}),
        # The noise is put on stage 2's target and on images' signals, and modelled by stage 3.
        ("noise.py", {"target", "reconstruct", "synthesise"}),
        ("inversion/target.py", {"target", "reconstruct"}),
        # Shared modules change all their users.
        ("settings/physics.py", {"simulate", "target", "reconstruct"}),
        ("sequence/pgse.py", STAGES - {"mesh"}),
        ("mesh/tetmesh.py", STAGES),
        # What only a person at a keyboard uses.
        ("cli/__init__.py", set()),
        # Bundles of straight axons have their exact signal.
        ("analytic/modes.py", {"synthesise"}),
    ],
)
def test_a_statement_changes_the_stages_that_use_its_file(
    source: Path, file: str, users: set[str]
) -> None:
    before = unedited()
    append(source / file, "\nEXTRA = 1\n")
    assert changed(before) & STAGES == users


@pytest.mark.parametrize(
    ("file", "figures"),
    [
        ("report/style.py", FIGURES),
        ("report/meshes.py", {"plot_meshes", "plot_signals"}),
        (
            "synthesis/targets.py",
            {"plot_synthesis", "plot_scores", "plot_conditional", "summarise"},
        ),
        ("inversion/metrics.py", {"plot_reconstruction"}),
    ],
)
def test_a_figure_follows_what_it_draws(source: Path, file: str, figures: set[str]) -> None:
    before = unedited()
    append(source / file, "\nEXTRA = 1\n")
    assert changed(before) - STAGES - ON_DEMAND == figures


def test_changing_a_number_inside_a_function_is_noticed(source: Path) -> None:
    before = unedited()
    path = source / "synthesis/sampling.py"
    text = path.read_text()
    path.write_text(text.replace("0.5 * (slope", "0.4 * (slope"))
    assert path.read_text() != text
    assert changed(before) >= {"synthesise"}
    path.write_text(text)
    assert changed(before) == set(), "the digest depends on the text alone"


def test_only_what_no_store_depends_on_belongs_to_no_stage() -> None:
    """No science can change without a stage noticing."""
    package = ROOT / "src"
    files = [path.relative_to(package).with_suffix("") for path in package.rglob("*.py")]
    names = {".".join(path.parts).removesuffix(".__init__") for path in files}
    used = modules_behind(module for modules in CODE.values() for module in modules)
    # `analytic` judges, it makes nothing; packages count only where they are asked for whole; the
    # values a configuration reads, unlike their conversion, are parameters of the rules.
    assert {name for name in names - used if not name.startswith("spinmesh.analytic")} == {
        "spinmesh",
        "spinmesh.cli",
        "spinmesh.cli.measured",
        "spinmesh.cli.reconstruct",
        "spinmesh.cli.results",
        "spinmesh.cli.synthesise",
        "spinmesh.settings",
        "spinmesh.settings.__main__",
        "spinmesh.settings.inputs",
        "spinmesh.settings.loading",
        "spinmesh.fem",
        "spinmesh.io",
        "spinmesh.reduction",
        "spinmesh.report",
        "spinmesh.sequence",
    }


def test_a_name_passed_on_counts_the_file_that_defines_it(source: Path) -> None:
    """Through a package's __init__, under another name, and through two packages."""
    for package in ("first", "second"):
        (source / package).mkdir()
    (source / "first/__init__.py").write_text("from spinmesh.first.here import verb\n")
    (source / "first/here.py").write_text("verb = 1\n")
    (source / "first/there.py").write_text("noun = 1\n")
    (source / "second/__init__.py").write_text("from spinmesh.first import verb as word\n")
    (source / "user.py").write_text("def call():\n    from spinmesh.second import word\n")
    before = code_digest(["spinmesh.user"])
    (source / "first/there.py").write_text("noun = 2\n")
    assert code_digest(["spinmesh.user"]) == before
    (source / "first/here.py").write_text("verb = 2\n")
    assert code_digest(["spinmesh.user"]) != before


def test_a_package_counts_its_version(source: Path) -> None:
    assert code_digest(["spinmesh.units"], ["torch"]) != code_digest(["spinmesh.units"])


def test_an_unknown_module_is_refused() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"spinmesh\.mash"):
        code_digest(["spinmesh.mash"])


def test_configuration_digest_ignores_the_order_of_keys_only() -> None:
    assert config_digest({"a": 1, "b": [1, 2]}) == config_digest({"b": [1, 2], "a": 1})
    assert config_digest({"b": [1, 2]}) != config_digest({"b": [2, 1]})
