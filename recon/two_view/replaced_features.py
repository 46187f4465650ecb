"""Features of all photos, some of them in the place of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recon.stage_results import PhotoFeatures
from recon.work.content_key import content_key, item_key
from recon.work.on_demand import OnDemand


class ReplacedFeatures(OnDemand[PhotoFeatures]):
    """Features of all photos, some of them ``instead`` of those ``before``."""

    def __init__(
        self, before: Sequence[PhotoFeatures], instead: Mapping[int, PhotoFeatures]
    ) -> None:
        self._before, self._instead = before, instead

    def __len__(self) -> int:
        return len(self._before)

    def item(self, index: int) -> PhotoFeatures:
        """Return the features of one photo."""
        found = self._instead.get(index)
        return self._before[index] if found is None else found

    def item_key(self, index: int) -> str:
        """Return their name."""
        found = self._instead.get(index)
        return item_key(self._before, index) if found is None else content_key("item", 1, found)
