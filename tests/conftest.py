"""Types are checked in every test: shapes by jaxtyping, the rest by beartype."""

import pytest
import torch
from jaxtyping import install_import_hook

# Has to come before the first import of spinmesh; users of the package never pay for it.
install_import_hook("spinmesh", "beartype.beartype")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked gpu where there is no CUDA device."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
