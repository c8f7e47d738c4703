"""The small templates, tables and models of the inversion's tests."""

from tests.inversion.conftest import basis, model, substrates, template

__all__ = ["basis", "model", "substrates", "template"]
