"""Features of all photos, some of them in the place of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

from recon.stage_results import PhotoFeatures
from recon.work.content_key import content_key, item_key


@dataclass(frozen=True)
class ReplacedFeatures(Sequence[PhotoFeatures]):
    """Features of all photos, some of them ``instead`` of those ``before``."""

    before: Sequence[PhotoFeatures]
    instead: Mapping[int, PhotoFeatures]

    def __len__(self) -> int:
        return len(self.before)

    @overload
    def __getitem__(self, photo: int) -> PhotoFeatures: ...
    @overload
    def __getitem__(self, photo: slice) -> Sequence[PhotoFeatures]: ...
    def __getitem__(self, photo: int | slice) -> PhotoFeatures | Sequence[PhotoFeatures]:
        if isinstance(photo, slice):
            return [self[k] for k in range(*photo.indices(len(self)))]
        found = self.instead.get(photo)
        return self.before[photo] if found is None else found

    def item_key(self, photo: int) -> str:
        """Return a name of one photo's features."""
        found = self.instead.get(photo)
        return item_key(self.before, photo) if found is None else content_key("item", 1, found)
