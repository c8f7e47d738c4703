"""Any noun as an xarray dataset and back: axes from its annotations, units from `quantity`.

| a field's type | in the store |
| --- | --- |
| tensor or array | a variable; "3" is the axis `axis`, a repeated axis gets `_too` |
| number, word, truth value, tuple or mapping of them | a group attribute |
| tuple of words with an `axis` | a variable of codes with `flag_meanings` (CF conventions) |
| mapping of tensors | a variable for each, named `field.key` |
| another noun, or a tuple of nouns | its fields, named `field.name` or `field.0.name` |
| a setting | its JSON as a group attribute |
| None | nothing |

Where a noun's class has subclasses, the attribute `kind` names the one that is stored. Properties
that a noun lists in `DERIVED`, with axis and unit, are written for other readers and not read back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic_core import PydanticSerializationError, to_jsonable_python
from torch import Tensor

from spinmesh.errors import StoreError

if TYPE_CHECKING:
    import xarray as xr  # slow to import, so where it is used

Noun = TypeVar("Noun")
# A mapping of tensors without entries is an attribute.
ANY_CLASS = ConfigDict(arbitrary_types_allowed=True)


class Variable(NamedTuple):
    """What xarray makes a variable of."""

    axes: tuple[str, ...]
    values: np.ndarray
    attrs: dict[str, Any]


def encode(noun: Any) -> xr.Dataset:
    """The dataset of a noun; StoreError as `described`."""
    import xarray as xr

    variables, attributes = described(noun)
    return xr.Dataset(variables, attrs=attributes)


def described(noun: Any) -> tuple[dict[str, Variable], dict[str, Any]]:
    """Variables and attributes of a noun's dataset.

    Raises StoreError if a field has no place in a store, or must be finite.
    """
    variables: dict[str, Variable] = {}
    attributes: dict[str, Any] = {}
    # Of a noun whose class inherits its store, the store names the class.
    declared = next((base for base in type(noun).__mro__ if "__store__" in vars(base)), type(noun))
    _encode_noun(noun, declared, "", variables, attributes)
    return _with_equal_lengths(variables), attributes


def with_words(dataset: xr.Dataset, words: Mapping[str, Iterable[str]]) -> xr.Dataset:
    """The dataset with its codes numbered by all `words` of a variable, those it lacks too."""
    recoded: dict[str, Variable] = {}
    for name, more in words.items():
        variable = dataset.variables[name]
        meanings = sorted({*variable.attrs["flag_meanings"], *more})
        code = np.array([meanings.index(w) for w in variable.attrs["flag_meanings"]], np.int32)
        attrs = variable.attrs | {"flag_meanings": meanings}
        recoded[name] = Variable(tuple(map(str, variable.dims)), code[variable.values], attrs)
    return dataset.assign(recoded)


def gather(shards: Sequence[Noun], axis: str) -> Noun:
    """The whole of which shard i of n holds the members i, i + n, i + 2n, ... of an axis.

    What does not run along the axis is taken from the first shard.
    """
    hints, values = get_type_hints(type(shards[0])), {}
    for item in fields(shards[0]):  # type: ignore[arg-type]
        parts = [getattr(shard, item.name) for shard in shards]
        first = str(getattr(_options(hints[item.name])[0], "dim_str", "")).split()[:1]
        if parts[0] is None or axis not in (*first, item.metadata.get("axis")):
            values[item.name] = parts[0]
        else:
            count, tensor = sum(map(len, parts)), isinstance(parts[0], Tensor)
            whole = parts[0].new_empty((count, *parts[0].shape[1:])) if tensor else [None] * count
            for number, part in enumerate(parts):
                whole[number :: len(parts)] = part
            values[item.name] = whole if tensor else tuple(whole)
    return type(shards[0])(**values)


def _refuse_non_finite(name: str, variable: Variable) -> None:
    wrong = ~np.isfinite(variable.values)
    if wrong.any():
        first = zip(variable.axes, np.argwhere(wrong)[0].tolist(), strict=True)
        raise StoreError(
            f"{name}: {int(wrong.sum())} of {wrong.size} values are not finite (first: "
            f"{', '.join(f'{axis} {number}' for axis, number in first)}). Compute it again; "
            "nothing was written."
        )


def _options(annotation: Any) -> tuple[Any, ...]:
    """What a union may be, but None; of any other annotation itself."""
    union = get_origin(annotation) in (Union, UnionType)
    options = get_args(annotation) if union else (annotation,)
    return tuple(option for option in options if option is not NoneType)


def _kinds(annotation: Any) -> dict[str, type]:
    """The classes an annotation stands for, itself and all below it, by name."""
    classes: dict[str, type] = {}
    for option in _options(annotation):
        classes[option.__name__] = option
        for subclass in option.__subclasses__():
            classes |= _kinds(subclass)
    return classes


def _is_noun(annotation: Any) -> bool:
    return all(
        isinstance(option, type) and any(map(is_dataclass, _kinds(option).values()))
        for option in _options(annotation)
    )


def _encode_noun(
    noun: Any, annotation: Any, prefix: str, variables: dict[str, Any], attributes: dict[str, Any]
) -> None:
    if len(_kinds(annotation)) > 1:
        attributes[prefix + "kind"] = type(noun).__name__
    hints = get_type_hints(type(noun))
    for item in fields(noun):
        value = getattr(noun, item.name)
        if item.init and value is not None:
            name, hint = prefix + item.name, hints[item.name]
            _encode_field(name, value, hint, item.metadata, variables, attributes)
    for name, (axis, units) in getattr(noun, "DERIVED", {}).items():
        variables[prefix + name] = Variable((axis,), getattr(noun, name).numpy(), {"units": units})


def _encode_field(
    name: str,
    value: Any,
    annotation: Any,
    metadata: Mapping[str, Any],
    variables: dict[str, Any],
    attributes: dict[str, Any],
) -> None:
    units = metadata.get("units", "1")
    if isinstance(value, Tensor | np.ndarray):
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        axes = _axes(name, _options(annotation)[0], array.ndim)
        variables[name] = Variable(axes, array, {"units": units})
        if metadata.get("finite"):
            _refuse_non_finite(name, variables[name])
    elif isinstance(value, BaseModel):
        attributes[name] = value.model_dump_json()
    elif is_dataclass(value):
        _encode_noun(value, annotation, name + ".", variables, attributes)
    elif metadata.get("axis"):
        # CF flags: integer codes with their meanings, which any Zarr reader understands.
        meanings = sorted(set(value))
        codes = np.array([meanings.index(word) for word in value], dtype=np.int32)
        attrs = {"units": "1", "flag_meanings": meanings}
        variables[name] = Variable((metadata["axis"],), codes, attrs)
    elif isinstance(value, tuple) and value and is_dataclass(value[0]):
        attributes[name] = len(value)
        kind = get_args(_options(annotation)[0])[0]
        for number, part in enumerate(value):
            _encode_noun(part, kind, f"{name}.{number}.", variables, attributes)
    elif isinstance(value, Mapping) and any(isinstance(v, Tensor) for v in value.values()):
        for key, tensor in value.items():
            array, part = tensor.detach().cpu().numpy(), f"{name}.{key}"
            axes = tuple(f"{part}[{axis}]" for axis in range(array.ndim))
            variables[part] = Variable(axes, array, {"units": units})
    else:
        try:
            attributes[name] = to_jsonable_python(value, inf_nan_mode="strings")
        except PydanticSerializationError as error:
            raise StoreError(f"{name}: {type(value).__name__} has no place in a store.") from error
        if units != "1":
            attributes.setdefault("units", {})[name] = units


def _axes(name: str, annotation: Any, count: int) -> tuple[str, ...]:
    """Axis names of an array from an annotation such as "point 3"; unnamed ones are numbered."""
    words = str(getattr(annotation, "dim_str", "")).split()
    if len(words) != count:
        words = [f"{name}[{axis}]" for axis in range(count)]
    axes: list[str] = []
    for word in words:
        axis = "axis" if word.isdigit() else word
        while axis in axes:
            axis += "_too"
        axes.append(axis)
    return tuple(axes)


def _with_equal_lengths(variables: dict[str, Variable]) -> dict[str, Variable]:
    """An axis name that means two lengths in one store is named after its variable instead."""
    lengths: dict[str, int] = {}
    renamed = {}
    for name, variable in variables.items():
        axes = [
            axis if lengths.setdefault(axis, length) == length else f"{name}:{axis}"
            for axis, length in zip(variable.axes, variable.values.shape, strict=True)
        ]
        # A variable of several axes must not be called like one of them.
        axes = [f"{axis}_index" if axis == name else axis for axis in axes]
        renamed[name] = variable._replace(axes=tuple(axes))
    return renamed


def decode(annotation: Any, dataset: xr.Dataset, prefix: str = "") -> Any:
    """The noun that `encode` made the dataset from; its constructor checks it again."""
    kinds = _kinds(annotation)
    kind = dataset.attrs.get(prefix + "kind", next(iter(kinds)))
    if kind not in kinds:
        raise StoreError(f"store: unknown kind {kind!r}. Known: {', '.join(sorted(kinds))}.")
    hints = get_type_hints(kinds[kind])
    values = {
        item.name: _decode_field(prefix + item.name, hints[item.name], dataset)
        for item in fields(kinds[kind])
        if item.init
    }
    return kinds[kind](**values)


def _decode_field(name: str, annotation: Any, dataset: xr.Dataset) -> Any:
    kind, *_ = options = _options(annotation)
    if name in dataset.variables:
        variable = dataset.variables[name]
        if "flag_meanings" in variable.attrs:
            return tuple(variable.attrs["flag_meanings"][code] for code in variable.values)
        array = np.array(variable)
        numpy = getattr(kind, "array_type", Tensor) is np.ndarray
        return array if numpy else torch.from_numpy(array)
    if name in dataset.attrs:
        value = dataset.attrs[name]
        if get_origin(kind) is tuple and _is_noun(part := get_args(kind)[0]):
            return tuple(decode(part, dataset, f"{name}.{k}.") for k in range(value))
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind.model_validate_json(value)
        return TypeAdapter(annotation, config=ANY_CLASS).validate_python(value)
    names = map(str, (*dataset.variables, *dataset.attrs))
    below = [each for each in names if each.startswith(f"{name}.")]
    if not below and options != (annotation,):
        return None
    if below and _is_noun(annotation):
        return decode(annotation, dataset, f"{name}.")
    if isinstance(origin := get_origin(kind), type) and issubclass(origin, Mapping):
        start = len(name) + 1
        arrays = {key[start:]: np.array(dataset.variables[key]) for key in below}
        return {key: torch.from_numpy(array) for key, array in arrays.items()}
    raise StoreError(f"store: `{name}` is missing.")
