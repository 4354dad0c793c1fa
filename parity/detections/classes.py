"""Which of a model's classes a category of an annotation file is.

Official models number their classes from 1: a class id is the class index + 1, and in COCO's files
the category id is that too. Exporters number otherwise: from 0, without COCO's gaps, by the
alphabet. What a class is called decides where that is known; else the ids are taken for class ids,
where they can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from efficientdet_spec import Cause, InputError
from parity.detections.annotation_values import listed


@dataclass(frozen=True)
class Classes:
    """The classes of a model.

    Attributes:
        count: How many there are.
        stated: Name by class id where the model says what they are (official ``label_map``).
        usual: The same where it does not say, but models of so many classes have these names; they
            are used only where every category that is used has one of them.
    """

    count: int
    stated: Mapping[int, str] | None = None
    usual: Mapping[int, str] | None = None


@dataclass(frozen=True)
class Assigned:
    """The class of each category.

    Attributes:
        classes: Class id by category id, of the categories that the model has.
        notes: Sentences on what is not as the format has it.
    """

    classes: Mapping[int, int]
    notes: tuple[str, ...] = ()


def assign(
    source: Path, categories: Mapping[int, str], used: Mapping[int, int], classes: Classes
) -> Assigned:
    """The class of each category: by name where names are known, else by number.

    A category that no annotation is of needs none.

    Args:
        source: The annotation file, for messages.
        categories: Name by category id.
        used: How many annotations are of each category that is used; empty where the file has none.
        classes: Of the model.

    Raises:
        InputError: A category that is used is none of the classes, as far as can be told.
    """
    names = _Names.of(categories, classes)
    known = ((number, names.class_of(number)) for number in categories)
    named = {number: its for number, its in known if its is not None}
    found = [number for number in named if number in used or not used]
    lacking = [number for number in categories if number in used and number not in named]
    same = all(named[number] == number for number in found)
    if lacking and (not same or (classes.stated and not found)):
        raise _no_name(source, names, lacking, classes)
    if not same:
        return _named(categories, named, stated=bool(classes.stated))
    return _numbered(source, names, used, classes, lacking if classes.stated else [])


@dataclass(frozen=True)
class _Names:
    """Who has which name, without what people write differently.

    Attributes:
        categories: Name by category id.
        sharing: The categories that have a name, used or not.
        ids: The class ids that the model's names give a name.
        count: How many classes the model has.
    """

    categories: Mapping[int, str]
    sharing: Mapping[str, list[int]]
    ids: Mapping[str, list[int]]
    count: int

    @classmethod
    def of(cls, categories: Mapping[int, str], classes: Classes) -> _Names:
        sharing: dict[str, list[int]] = {}
        for number, name in categories.items():
            sharing.setdefault(_plain(name), []).append(number)
        ids: dict[str, list[int]] = {}
        for number, name in (classes.stated or classes.usual or {}).items():
            ids.setdefault(_plain(name), []).append(number)
        return cls(categories, sharing, ids, classes.count)

    def class_of(self, category: int) -> int | None:
        """The class that has a category's name; None where not both are the only ones."""
        name = _plain(self.categories[category])
        ids = self.ids.get(name, [])
        alone = self.sharing[name] == [category] and len(ids) == 1
        return ids[0] if alone and 1 <= ids[0] <= self.count else None

    def why_none(self, category: int) -> str:
        """Why a category is of no one class though its name is known; empty where it is not."""
        name = _plain(self.categories[category])
        ids, sharing = self.ids.get(name, []), self.sharing[name]
        if not ids:
            return ""
        if len(sharing) > 1:
            every = "both" if len(sharing) == 2 else "all"
            return f"the categories {listed(sharing)} are {every} called so"
        if len(ids) > 1:
            return f"the label map calls the classes {listed(ids)} so"
        return (
            f"the label map gives that name the id {ids[0]}, but the model's ids are 1 to "
            f"{self.count} (class index + 1)"
        )


def _plain(name: str) -> str:
    """A name without what people write differently."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _named(categories: Mapping[int, str], named: Mapping[int, int], *, stated: bool) -> Assigned:
    moved = next(number for number, found in named.items() if number != found)
    of = "the model's label map" if stated else "COCO's names, for a model of so many classes"
    notes = [
        f"categories were mapped to the model's classes by name, after {of}: their ids are others "
        f"({moved} is {categories[moved]!r:.60}, class {named[moved]})"
    ]
    rest = [f"{number} {categories[number]!r:.60}" for number in categories if number not in named]
    if rest:
        notes.append(f"unused categories that no class was found for were left out: {listed(rest)}")
    return Assigned(dict(named), tuple(notes))


def _numbered(
    source: Path,
    names: _Names,
    used: Mapping[int, int],
    classes: Classes,
    unnamed: list[int],
) -> Assigned:
    """Category ids taken for class ids."""
    categories = names.categories
    inside = {number: number for number in categories if 1 <= number <= classes.count}
    outside = [number for number in categories if number not in inside]
    wrong = [number for number in outside if number in used]
    if wrong and classes.stated:
        raise _no_name(source, names, wrong, classes)
    if wrong:
        raise _no_number(source, categories, used, classes, wrong)
    if not inside:
        raise InputError(
            f"{source} has no category with one of the model's class ids, 1 to {classes.count}; "
            f"give the annotations that the model was trained for.",
            Cause.MODEL,
        )
    notes = []
    if outside:
        rest = [f"{number} {categories[number]!r:.60}" for number in outside]
        notes.append(
            f"unused categories beyond the model's classes 1 to {classes.count} were left out: "
            f"{listed(rest)}"
        )
    strange = [number for number in unnamed if not names.why_none(number)]
    if strange:
        rest = [f"{number} {categories[number]!r:.60}" for number in strange]
        notes.append(
            f"categories whose names the model's label map does not have were taken by number, as "
            f"all others agree: {listed(rest)}"
        )
    known = [number for number in unnamed if names.why_none(number)]
    if known:
        rest = [f"{number} {categories[number]!r:.60}" for number in known]
        notes.append(
            f"categories whose names say no one class were taken by number, as all others agree: "
            f"{listed(rest)}; of the first, {names.why_none(known[0])}"
        )
    return Assigned(inside, tuple(notes))


def _no_name(source: Path, names: _Names, lacking: list[int], classes: Classes) -> InputError:
    known = [number for number in lacking if names.why_none(number)]
    if known:
        number = known[0]
        return InputError(
            f"{source} has annotations of category {number}, {names.categories[number]!r:.60}, and "
            f"which class it is cannot be told: {names.why_none(number)}. Give each category and "
            f"each class a name of its own, and the label_map ids from 1.",
            Cause.MODEL,
        )
    shown = listed([f"{number} {names.categories[number]!r}" for number in lacking])
    known_names = listed(
        [repr(name) for name in (classes.stated or classes.usual or {}).values()], 5
    )
    if classes.stated:
        why = f"the model's label map, which has {known_names}"
    else:
        why = (
            f"COCO's ({known_names}), whose ids the other categories do not have either, so that "
            f"it is not known which class each is"
        )
    return InputError(
        f"{source} has annotations of categories whose names are none of {why}: {shown}. Call "
        f"them as the model's classes, or give a label_map that has all of the model's classes, "
        f"1 to {classes.count}.",
        Cause.MODEL,
    )


def _no_number(
    source: Path,
    categories: Mapping[int, str],
    used: Mapping[int, int],
    classes: Classes,
    wrong: list[int],
) -> InputError:
    first = wrong[0]
    told = (
        f"{source} has {used[first]:,} annotations of category {first}, {categories[first]!r:.60}, "
        f"but the model's classes are the ids 1 to {classes.count} (class index + 1"
    )
    if first == 0:
        return InputError(
            f"{told}; 0 is the background). Number the categories from 1 in the order of the "
            f"model's classes, or give the model's label_map, so that they are mapped by name.",
            Cause.MODEL,
        )
    return InputError(
        f"{told}), and no label map says which class it is. Give the annotations that the model "
        f"was trained for, or the model's label_map, so that categories are mapped by name.",
        Cause.MODEL,
    )
