"""A result is made again when the code behind it or its configuration changes, and only then."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from spinmesh import provenance
from spinmesh.provenance import code_digest, config_digest

ROOT = Path(__file__).parents[1]
NAMES = ("sample_substrates", "simulate_shard", "plot_meshes", "summarise")
SCRIPTS = [ROOT / f"workflow/scripts/{name}.py" for name in NAMES]
PACKAGE = {
    "__init__.py": 'HOME = {"spinmesh.third": "idle later"}\n',
    "third/__init__.py": "from spinmesh.third.here import idle\n",
    "third/here.py": "idle = 1\n",
    "third/there.py": "later = 1\n",
    "first/__init__.py": "from spinmesh.first.here import verb\n",
    "first/here.py": "verb = 1\n",
    "first/there.py": "noun = 1\n",
    "second/__init__.py": "from spinmesh.first import verb as word\n",
    "user.py": '"""Words."""\n\n\ndef call():\n    from spinmesh.second import word\n'
    '    return word, "spinmesh.apart:seal", open("page.html")\n',
    "page.html": "<p>",
    "other.html": "<p>",
    "apart.py": "seal = 1\n",
    "stranger.py": "import spinmesh.first.there\n",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A package of its own, and a script that imports its module `user`."""
    for name, text in PACKAGE.items():
        (tmp_path / "spinmesh" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "spinmesh" / name).write_text(text)
    text = "import spinmesh\nfrom spinmesh.user import call\n\ncall(spinmesh.idle)\n"
    (tmp_path / "script.py").write_text(text)
    return tmp_path / "spinmesh"


def digest(source: Path) -> str:
    return code_digest(source.parent / "script.py", sources=source.parent)


@pytest.mark.parametrize(
    ("file", "text", "counts"),
    [
        # A name counts the file that defines it, through two packages and under another name.
        ("first/here.py", "verb = 2\n", True),
        ("first/there.py", "noun = 2\n", False),
        ("third/here.py", "idle = 2\n", True),
        ("third/there.py", "later = 2\n", False),
        ("user.py", PACKAGE["user.py"] + "EXTRA = 1\n", True),
        ("stranger.py", "EXTRA = 1\n", False),
        # So does a function that another process is told to run.
        ("apart.py", "seal = 2\n", True),
        # And a file that is named.
        ("page.html", "<b>", True),
        ("other.html", "<b>", False),
        # Comments, docstrings and layout do not count.
        ("first/here.py", '"""A page."""\n\n\nverb = 1  # why, never what\n"""More."""\n', False),
        ("user.py", PACKAGE["user.py"].replace("Words", "Others"), False),
        ("../script.py", "from spinmesh.user import call\n\ncall(1)\n", True),
    ],
)
def test_a_statement_counts_where_it_is_used(
    source: Path, file: str, text: str, counts: bool
) -> None:
    before = digest(source)
    (source / file).write_text(text)
    assert (digest(source) != before) == counts


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Nothing has been read before, in this process or another."""
    monkeypatch.setattr(provenance, "KEPT", tmp_path / "kept.json")
    provenance._kept.cache_clear()
    yield tmp_path / "kept.json"
    provenance._kept.cache_clear()


@pytest.mark.parametrize("damage", ["", "[1]", '{"a": 1}', '{"a": '])
def test_what_was_read_of_the_sources_is_kept(
    source: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """The next process parses nothing, unless what is kept is damaged; the digest is the same."""
    first = digest(source)
    provenance._kept.cache_clear()
    if damage:
        kept.write_text(damage)
    else:
        monkeypatch.setattr(provenance.ast, "parse", None)
    assert digest(source) == first


def test_a_package_counts_its_version(source: Path) -> None:
    script = source.parent / "script.py"
    assert code_digest(script, ["torch"], source.parent) != digest(source)


def test_scripts_follow_the_modules_behind_them(tmp_path: Path) -> None:
    """In a copy of the package, a statement more in a module: who notices, and who does not."""
    ignored = shutil.ignore_patterns("__pycache__")
    copy = shutil.copytree(ROOT / "src/spinmesh", tmp_path / "spinmesh", ignore=ignored)

    def digests() -> dict[str, str]:
        return {script.stem: code_digest(script, sources=tmp_path) for script in SCRIPTS}

    before = digests()
    for file, noticed in (
        ("mesh/tetmesh.py", set(before)),
        ("sequence/pgse.py", {"simulate_shard", "summarise"}),
        ("report/style.py", {"plot_meshes"}),
        ("cli/__init__.py", set()),
    ):
        text = (copy / file).read_text()
        (copy / file).write_text(text + "\nEXTRA = 1\n")
        after = digests()
        assert {name for name in before if before[name] != after[name]} == noticed, file
        (copy / file).write_text(text)


def test_configuration_digest_ignores_the_order_of_keys_only() -> None:
    assert config_digest({"a": 1, "b": [1, 2]}) == config_digest({"b": [1, 2], "a": 1})
    assert config_digest({"b": [1, 2]}) != config_digest({"b": [2, 1]})
