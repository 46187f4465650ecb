"""Sequences whose items are read or made when they are asked for, and know their names."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, overload

from recon.work.content_key import content_key, item_key

S = TypeVar("S")
T = TypeVar("T")


class OnDemand(Sequence[T]):
    """Items that are read or made when they are asked for, each by its number from 0 on.

    A slice of them reads nothing. What depends on one item, or on all, depends on its name
    (:func:`recon.work.content_key.item_key`), which most subclasses know without reading it.
    """

    @abstractmethod
    def item(self, index: int) -> T:
        """Return item number ``index``, from 0 on."""

    def item_key(self, index: int) -> str:
        """Return the name of one item, by what it depends on."""
        return content_key("item", 1, self.item(index))

    @property
    def content_key(self) -> str:
        """Name of all items together."""
        return " ".join(self.item_key(k) for k in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Chosen[T]: ...

    def __getitem__(self, index: int | slice) -> T | Chosen[T]:
        numbers = range(len(self))
        if isinstance(index, slice):
            return Chosen(self, numbers[index])
        return self.item(numbers[index])


class Chosen(OnDemand[T]):
    """Some of ``items``, by their ``numbers``."""

    def __init__(self, items: Sequence[T], numbers: Sequence[int]) -> None:
        self._items, self._numbers = items, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def item(self, index: int) -> T:
        """Return one of them."""
        return self._items[self._numbers[index]]

    def item_key(self, index: int) -> str:
        """Return its name among all items."""
        return item_key(self._items, self._numbers[index])


class Mapped(OnDemand[T], Generic[S, T]):
    """``function`` of each of ``items``, of whose names its own are made: it must be one of those
    that give the same for the same.
    """

    def __init__(self, function: Callable[[S], T], items: Sequence[S]) -> None:
        self._function, self._items = function, items

    def __len__(self) -> int:
        return len(self._items)

    def item(self, index: int) -> T:
        """Return what the function makes of one item."""
        return self._function(self._items[index])

    def item_key(self, index: int) -> str:
        """Return the name of the item that it is made of."""
        return item_key(self._items, index)


class Scattered(OnDemand[T | None], Generic[T]):
    """``items`` at the places ``numbers`` of ``count``, and None between them."""

    def __init__(self, items: Sequence[T], numbers: Sequence[int], count: int) -> None:
        self._items = items
        self._place: list[int | None] = [None] * count
        for place, number in enumerate(numbers):
            self._place[number] = place

    def __len__(self) -> int:
        return len(self._place)

    def item(self, index: int) -> T | None:
        """Return the item at a place, None where there is none."""
        place = self._place[index]
        return None if place is None else self._items[place]

    def item_key(self, index: int) -> str:
        """Return its name."""
        place = self._place[index]
        return "none" if place is None else item_key(self._items, place)
