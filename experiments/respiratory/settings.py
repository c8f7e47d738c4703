"""The configuration of `make respiratory`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spinmesh.settings.respiratory import Afen, LungSounds, SoundFeatures, Spiking
from spinmesh.settings.setting import Setting


class Respiratory(Setting):
    """A run of `make respiratory`."""

    run: str = Field("respiratory", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; its results go to results/<run>/."""
    seed: int = Field(1, ge=0, lt=2**63)
    """Every random number follows from it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks are trained; auto: the GPU if there is one."""
    sounds: LungSounds = LungSounds()
    """What is listened to."""
    features: SoundFeatures = SoundFeatures()
    """What is computed of it."""
    afen: Afen = Afen()
    """What is trained on whole windows."""
    spiking: Spiking = Spiking()
    """Networks of spiking neurons, and their bits."""
