"""Data classes: made, compared, hashed, ordered and turned into dictionaries."""

from collections import defaultdict
from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True, order=True)
class Point:
    x: int
    y: int
    label: str = "p"


def work():
    points = [Point(i * 7 % 101, i * 13 % 89) for i in range(24_000)]
    groups = defaultdict(list)
    for point in points:
        groups[point].append(point.x)
    moved = sorted(replace(point, y=point.y + 1) for point in points[:4_500])
    return f"{len(groups)} {moved[2_000].y} {sum(len(asdict(point)) for point in points[:7_000])}"
