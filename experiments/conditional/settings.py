"""Settings of the experiment: how images drawn for held-out signals are judged."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from spinmesh.settings.setting import Setting


class Conditional(Setting):
    """How many held-out signals, and images for each."""

    signals: int = Field(200, ge=2)
    """Held-out signals."""
    samples: int = Field(64, ge=2)
    """Images drawn for each."""
    simulated: PositiveInt = 2
    """Of these, how many are simulated again."""
    steps: int = Field(12, ge=2)
    """Of the sampler: dpm_solver_2m for a linear sde, splitting for the others."""
    guidance: NonNegativeFloat = 1.0
    """0: ignore the signal; 1: the posterior; above 1: exaggerate it."""

    @model_validator(mode="after")
    def _enough_are_drawn(self) -> Conditional:
        if self.simulated > self.samples:
            raise ValueError(
                f"simulated {self.simulated}, samples {self.samples}; give no more simulated than "
                "samples"
            )
        return self
