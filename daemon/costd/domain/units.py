"""Units of usage: which there are, what contains what, and which quantities make sense together.

A unit is a point in a few dimensions (family, direction, modality, token type, …). Counts are inclusive: a unit with
fewer dimensions contains every unit that adds some to it. `input_tokens` contains `cache_read_tokens` and
`input_audio_tokens`, which both contain `cache_audio_read_tokens`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from itertools import combinations
from typing import NamedTuple

from costd.domain.errors import Invalid

#: An amount of a unit: fractions only where the unit can be divided.
Quantity = int | Decimal

#: More than any call can use; a larger count is a mistake of its sender.
MAX_QUANTITY = 10**12
#: Enough for the shortest text of any float that means something, few enough that exact arithmetic stays cheap.
MAX_DECIMAL_PLACES = 30
MAX_UNITS = 64
#: Combinations of units remembered; callers use a handful, and their inventions cannot grow memory past it.
MAX_SHAPES = 512

#: Other names that callers may use, and the unit each stands for.
ALIASES = {"chars": "input_characters"}

#: Counted once for every priced request whatever the caller says, so no caller can report it.
PER_REQUEST = "requests"

_FRACTIONAL_FAMILIES = frozenset({"durations", "document_pages"})
_UNIT_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


class Unit(NamedTuple):
    """One unit of the list: prices are for `per` of it; `dimensions` place it among the others."""

    name: str
    per: int
    dimensions: frozenset[tuple[str, str]]
    fractional: bool

    def contains(self, other: Unit) -> bool:
        """Whether `other` is counted within this unit (and is not this unit)."""
        return self.dimensions < other.dimensions

    def overlaps(self, other: Unit) -> bool:
        """Whether a token can be in both, though neither contains the other."""
        if self.dimensions <= other.dimensions or other.dimensions <= self.dimensions:
            return False
        mine, theirs = dict(self.dimensions), dict(other.dimensions)
        return all(theirs.get(key, value) == value for key, value in mine.items())


class _Shape(NamedTuple):
    """What must hold between the counts of a combination of units, known ones whose parents are all among them."""

    within: tuple[tuple[str, str], ...]
    together: tuple[tuple[str, tuple[str, ...]], ...]

    def is_sound(self, units: Mapping[str, Quantity]) -> bool:
        """Whether the counts are sound and fit together; where they do not, the full check says why."""
        for value in units.values():
            # `type` instead of isinstance: a bool is not a count.
            if type(value) is not int or not 0 <= value <= MAX_QUANTITY:
                return False
        for part, whole in self.within:
            if units[part] > units[whole]:
                return False
        return all(sum(units[name] for name in parts) <= units[whole] for whole, parts in self.together)


class UnitRegistry:
    """Every unit of the price list and how they nest.

    Names outside it are custom units: they must be lower-case words joined by underscores, stand alone, and are never
    rated by the list.
    """

    def __init__(self, raw: Mapping[str, tuple[int, Mapping[str, str]]]) -> None:
        """Take the units as {name: (per, dimensions)}."""
        self.units = {
            name: Unit(name, per, frozenset(dimensions.items()), dimensions.get("family") in _FRACTIONAL_FAMILIES)
            for name, (per, dimensions) in raw.items()
        }
        units = [unit for unit in self.units.values() if unit.name != PER_REQUEST]
        #: For each unit, all that contain it.
        self.ancestors = {u.name: tuple(a.name for a in units if a.contains(u)) for u in units}
        #: For each unit, all that it contains.
        self.descendants = {u.name: tuple(d.name for d in units if u.contains(d)) for u in units}
        self._parents = {name: self._nearest(ancestors) for name, ancestors in self.ancestors.items()}
        self._disjoint = {u.name: _disjoint_children(u, units) for u in units}
        by_dimensions = {unit.dimensions: unit.name for unit in units}
        self._joins: dict[tuple[str, str], str | None] = {
            (a.name, b.name): by_dimensions.get(a.dimensions | b.dimensions)
            for a, b in combinations(sorted(units), 2)
            if a.overlaps(b)
        }
        #: For each unit that is the overlap of two others, those pairs.
        self.overlaps: dict[str, tuple[tuple[str, str], ...]] = {}
        for pair, name in self._joins.items():
            if name is not None:
                self.overlaps[name] = (*self.overlaps.get(name, ()), pair)
        self._shapes: dict[tuple[str, ...], _Shape | None] = {}

    def per(self, name: str) -> int:
        """How many of a unit prices are for; 1 for units that are not of the list."""
        unit = self.units.get(name)
        return unit.per if unit is not None else 1

    def depth(self, name: str) -> int:
        """How many dimensions place a unit; one that is not of the list stands alone."""
        unit = self.units.get(name)
        return len(unit.dimensions) if unit is not None else 1

    def stands_alone(self, name: str) -> bool:
        """Whether a unit neither contains another, nor is contained in one, nor can count the same as one."""
        pairs = (pair for pair in self._joins if name in pair)
        return not (self.ancestors.get(name) or self.descendants.get(name) or any(pairs))

    def join(self, left: str, right: str) -> str | None:
        """The unit that counts what is in both overlapping units, if the list has one."""
        return self._joins.get((left, right) if left < right else (right, left))

    def overlapping(self, left: str, right: str) -> bool:
        """Whether both units can count the same token, though neither contains the other."""
        return ((left, right) if left < right else (right, left)) in self._joins

    def canonical(self, units: Mapping[str, Quantity], field: str = "units") -> Mapping[str, Quantity]:
        """The same quantities under the list's own names (`chars` is `input_characters`).

        Raises Invalid where one unit comes under both names.
        """
        if ALIASES.keys().isdisjoint(units):
            return units
        renamed: dict[str, Quantity] = {}
        for name, value in units.items():
            own = ALIASES.get(name, name)
            if own in renamed:
                raise Invalid(f"{field}.{name}", f"is the same unit as {own}; send one of them")
            renamed[own] = value
        return renamed

    def check(self, units: Mapping[str, Quantity], field: str = "units") -> None:
        """Raise Invalid, naming `field`.unit, unless every quantity is sound and they fit together.

        Quantities are between 0 and MAX_QUANTITY, whole where the unit is a count. A unit above zero needs its
        parents, is at most as large as each, and together with its disjoint siblings fits into them.
        """
        names = tuple(units)
        shape = self._shapes[names] if names in self._shapes else self._remember_shape(names)
        if shape is not None and shape.is_sound(units):
            return
        if len(units) > MAX_UNITS:
            raise Invalid(field, f"must be at most {MAX_UNITS} units")
        for name, value in units.items():
            self._check_quantity(name, value, field)
        for name, value in units.items():
            if value and name in self._parents:
                self._check_parents(name, value, units, field)
        for name in units:
            for siblings in self._disjoint.get(name, ()):
                _check_together(name, siblings, units, field)
        if any(len(self._parents.get(name, ())) > 1 for name in units):
            self._check_overlaps(units, field)

    def _remember_shape(self, names: tuple[str, ...]) -> _Shape | None:
        shape = None
        known = [self.units.get(name) for name in names]
        parents = [(name, parent) for name in names for parent in self._parents.get(name, ())]
        if all(unit is not None and not unit.fractional and unit.name != PER_REQUEST for unit in known) and (
            all(parent in names for _, parent in parents) and len({name for name, _ in parents}) == len(parents)
        ):
            groups = ((name, siblings) for name in names for siblings in self._disjoint.get(name, ()))
            split = ((name, tuple(one for one in siblings if one in names)) for name, siblings in groups)
            shape = _Shape(tuple(parents), tuple((name, sent) for name, sent in split if len(sent) > 1))
        if len(self._shapes) >= MAX_SHAPES:
            self._shapes.clear()
        self._shapes[names] = shape
        return shape

    def _check_quantity(self, name: str, value: Quantity, field: str) -> None:
        if not _UNIT_NAME.match(name):
            raise Invalid(f"{field}.{name[:64]}", "is not a unit: use lower-case letters, digits and underscores")
        path = f"{field}.{name}"
        if type(value) is int:
            whole = True
        elif isinstance(value, Decimal):
            if not value.is_finite():
                raise Invalid(path, "must be a finite number")
            whole = False
        else:
            raise Invalid(path, "must be a number")
        if value < 0:
            raise Invalid(path, "must not be negative")
        if value > MAX_QUANTITY:
            raise Invalid(path, f"must be at most {MAX_QUANTITY}")
        if not whole:
            unit = self.units.get(name)
            if unit is not None and not unit.fractional:
                raise Invalid(path, "must be a whole number")
            exponent = Decimal(value).as_tuple().exponent
            if isinstance(exponent, int) and exponent < -MAX_DECIMAL_PLACES:
                raise Invalid(path, f"must have at most {MAX_DECIMAL_PLACES} decimal places")

    def _check_parents(self, name: str, value: Quantity, units: Mapping[str, Quantity], field: str) -> None:
        for parent in self._parents[name]:
            whole = units.get(parent)
            if whole is None:
                raise Invalid(f"{field}.{name}", f"is counted within {parent}, which is missing; send both")
            if value > whole:
                raise Invalid(f"{field}.{name}", f"is {value}, above {parent}, which contains it and is {whole}")

    def _check_overlaps(self, units: Mapping[str, Quantity], field: str) -> None:
        """Counts that overlap must fit too, once the overlap itself is known."""
        known = sorted((n for n in units if n in self._parents), key=lambda n: -len(self.units[n].dimensions))
        leaves: dict[str, Quantity] = {}
        for name in known:
            below = [other for other in known if other in self.descendants[name]]
            if any(self._overlap_unknown(a, b, units) for a, b in combinations(below, 2)):
                continue
            if any(other not in leaves for other in below):
                continue
            leaf = units[name] - sum(leaves[other] for other in below)
            if leaf < 0:
                parts = ", ".join(sorted(other for other in below if units[other]))
                raise Invalid(f"{field}.{name}", f"is {units[name]}, less than its parts together: {parts}")
            leaves[name] = leaf

    def _overlap_unknown(self, left: str, right: str, units: Mapping[str, Quantity]) -> bool:
        if not (units[left] and units[right] and self.overlapping(left, right)):
            return False
        join = self.join(left, right)
        return join is None or join not in units

    def _nearest(self, ancestors: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            name
            for name in ancestors
            if not any(self.units[name].contains(self.units[other]) for other in ancestors if other != name)
        )


def _disjoint_children(parent: Unit, units: list[Unit]) -> tuple[tuple[str, ...], ...]:
    """Groups of units that split `parent` along one more dimension: no token is in two of a group."""
    groups: dict[str, list[str]] = {}
    for unit in units:
        added = unit.dimensions - parent.dimensions
        if parent.contains(unit) and len(added) == 1:
            groups.setdefault(next(iter(added))[0], []).append(unit.name)
    return tuple(tuple(names) for names in groups.values() if len(names) > 1)


def _check_together(parent: str, siblings: tuple[str, ...], units: Mapping[str, Quantity], field: str) -> None:
    sent = [name for name in siblings if units.get(name)]
    if len(sent) < 2:
        return
    together = sum(units[name] for name in sent)
    if together > units[parent]:
        raise Invalid(
            f"{field}.{sent[0]}",
            f"and {', '.join(sent[1:])} are {together} together, above {parent}, which contains them and is "
            f"{units[parent]}",
        )
