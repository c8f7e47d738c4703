"""The workflow is boring: rules name things, scripts are glue, the science is elsewhere."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))
OF_WORKFLOWS = sorted((ROOT / "workflow").glob("*/scripts/*.py"))
OF_EXPERIMENTS = sorted((ROOT / "experiments").glob("*/scripts/*.py"))
RULE_FILES = sorted((ROOT / "workflow/rules").glob("*.smk"))
GLUE = (ast.Import, ast.ImportFrom, ast.AnnAssign, ast.Assign, ast.Expr)


def rules() -> dict[str, str]:
    """Text of every rule that makes something, by name."""
    found = {}
    for file in RULE_FILES:
        for block in re.split(r"^(?=(?:rule|checkpoint) )", file.read_text(), flags=re.M)[1:]:
            name = block.split()[1].rstrip(":")
            found[name] = block
    return found


RULES = rules()


def imports(tree: ast.Module) -> list[str]:
    """Every module the code imports."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return found


@pytest.mark.parametrize(
    "script", SCRIPTS + OF_WORKFLOWS + OF_EXPERIMENTS, ids=lambda path: path.stem
)
def test_script_is_glue(script: Path) -> None:
    text = script.read_text()
    assert len(text.splitlines()) < 25
    tree = ast.parse(text)
    assert all(isinstance(node, GLUE) for node in tree.body), "no def, if or for"
    for node in ast.walk(tree):
        assert not isinstance(node, ast.BinOp | ast.IfExp | ast.Lambda), ast.unparse(node)
    imported = {
        module.partition(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in (
            [n.name for n in node.names] if isinstance(node, ast.Import) else [node.module]
        )
    }
    ours = {"spinmesh", "experiments", "itertools"} if script in OF_EXPERIMENTS else {"spinmesh"}
    assert imported <= {"snakemake", "pathlib", *ours}


@pytest.mark.parametrize("name", sorted(RULES))
def test_rule_makes_something_with_a_script(name: str) -> None:
    """Log, benchmark, environment and digest of the code are added by bookkeeping.smk."""
    for directive in ("output", "script"):
        assert re.search(rf"^    {directive}:", RULES[name], re.M), directive
    assert not re.search(r"^    (run|shell):", RULES[name], re.M), "`run` starts a second snakemake"


def test_every_rule_has_its_script_and_no_script_is_left_over() -> None:
    used = set()
    for name, text in RULES.items():
        for path in re.findall(r'"(\.\./[\w./]+\.(?:py|yaml|rst))"', text):
            assert (ROOT / "workflow/rules" / path).resolve().is_file(), f"{name}: {path}"
        used.add(re.search(r'"\.\./scripts/(\w+)\.py"', text)[1])  # type: ignore[index]
    assert used == {path.stem for path in SCRIPTS}
    for path in OF_WORKFLOWS:
        rules = [*path.parents[1].glob("Snakefile"), *path.parents[1].glob("*.smk")]
        assert any(f'"scripts/{path.name}"' in rule.read_text() for rule in rules), path


def test_stores_are_written_to_fresh_folders() -> None:
    """Every Zarr output is a `directory(...)`, which Snakemake removes before a job."""
    stores = ("SUBSTRATES", "TARGET_MESH", "SIGNALS", "TARGET", "SHAPE_MODEL", "RECONSTRUCTION")
    stores += ("MEASURED", "CUT_IMAGES", "BUNDLES", "SCORE_MODEL")
    stores += ("SYNTHESIS", "PHANTOM", "PHANTOM_BIDS")
    for name, text in RULES.items():
        output = text.partition("    output:\n")[2].partition("\n    params:")[0]
        for line in output.splitlines():
            if ".zarr" in line or any(re.search(rf"=\(?{s}\b", line) for s in stores):
                assert "directory(" in line, f"{name}: {line}"


def test_science_does_not_import_the_workflow_engine() -> None:
    """Its documentation may speak of it, as of any user."""
    for path in (ROOT / "src/spinmesh").rglob("*.py"):
        modules = imports(ast.parse(path.read_text()))
        assert not any(module.startswith("snakemake") for module in modules), path
