"""One error family. Every message says what is wrong, where, and what to do next."""


class SpinmeshError(Exception):
    """Base class of every error spinmesh raises on purpose.

    What is `refused` would be refused again: a scheduler need not try it another time.
    """

    refused = True


class ConfigError(SpinmeshError):
    """A configuration value is unknown, misspelt or impossible."""


class MeshError(SpinmeshError):
    """A mesh is inverted, degenerate, mislabelled or of the wrong size."""


class SequenceError(SpinmeshError):
    """An acquisition or gradient waveform is inconsistent."""


class ReductionError(SpinmeshError):
    """A reduced basis, a solve or an optimisation cannot reach what was asked."""


class StoreError(SpinmeshError):
    """A store or an input file is missing, incomplete or of another schema."""


class MachineError(SpinmeshError):
    """Memory or a process is missing: on another machine, or later, the same may succeed."""

    refused = False


class ScaleWarning(UserWarning):
    """Lengths suggest another unit than the micrometre."""


class MeshWarning(UserWarning):
    """A mesh was mended, or is not in one piece."""


class ResolutionWarning(UserWarning):
    """A mesh is coarser than the accuracy that was asked for."""


class SoundWarning(UserWarning):
    """A sound is clipped, or its rate is not what its file says."""
