"""`spinmesh view`: one page on which a run or some stores are looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spinmesh.cli import measured
from spinmesh.errors import ConfigError

STORES = "A run's folder (results/<run>), a folder of `spinmesh reconstruct`, or stores (.zarr)."
Out = Annotated[
    Path, typer.Option(help="FILE.html, to be opened in any browser; needs no network.")
]


def view(
    stores: Annotated[list[Path], typer.Argument(help=STORES)],
    out: Out = Path("view.html"),
    force: measured.Replace = False,
) -> None:
    """Make one page: shapes to turn, posterior samples, signals, images, maps by the slice.

    Exit code 0: written. 1: there is nothing to show, with the reason. 2: wrong usage.
    """
    if out.suffix != ".html":
        raise ConfigError(f"--out {out}: give a name that ends in .html.")
    measured.refuse_existing(out, force)
    from spinmesh.view import write_page

    typer.echo(write_page(stores, out))
