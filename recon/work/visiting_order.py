"""In which order photos are gone through, so that what was read for one serves the next."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

# Photos used last among whose neighbours the next one is looked for: fewer than caches hold.
_REMEMBERED = 32


def visiting_order(needed: Sequence[Sequence[int]]) -> list[int]:
    """Return the photos, each once, so that those that need the same come close together.

    ``needed``: of each photo, which others it is compared with. Names of photos that nobody took in
    a row say nothing of that. Next is always the photo of which the largest part of what it needs
    was used last.
    """
    needed = [[photo, *others] for photo, others in enumerate(needed)]
    users: list[list[int]] = [[] for _ in needed]
    for photo, some in enumerate(needed):
        for other in some:
            users[other].append(photo)
    used: OrderedDict[int, None] = OrderedDict()
    waiting = dict.fromkeys(range(len(needed)))
    order = []
    while waiting:
        near = {photo for other in used for photo in users[other] if photo in waiting}

        def share(photo: int) -> tuple[float, int]:
            some = needed[photo]
            return sum(other in used for other in some) / len(some), -photo

        chosen = max(near, key=share) if near else next(iter(waiting))
        del waiting[chosen]
        order.append(chosen)
        for other in needed[chosen]:
            used[other] = None
            used.move_to_end(other)
        while len(used) > _REMEMBERED:
            used.popitem(last=False)
    return order
