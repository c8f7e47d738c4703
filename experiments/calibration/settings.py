"""Settings of the calibration experiment."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from spinmesh.settings.setting import Setting


class CalibrationSettings(Setting):
    """How many targets, and how each is reconstructed."""

    run: str = Field("calibration", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; its results go to results/<run>/."""
    targets: PositiveInt = 240
    """Shapes drawn from the prior; the number of a target is its seed."""
    chunks: PositiveInt = 12
    """Into how many jobs they are divided."""
    snr: PositiveFloat = 50.0
    """Of the unweighted signal."""
    draws: PositiveInt = 39
    """From each posterior; a multiple of 20 less one."""
    moves: PositiveInt = 10
    """Of each draw per temperature."""
    iterations: PositiveInt = 30
    """Gauss-Newton steps at most."""
