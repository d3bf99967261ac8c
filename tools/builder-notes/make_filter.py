"""Makes `text/src/tokens/o200k.filter` and `.seed` of the file `o200k_base.tiktoken`: python3 make_filter.py FILE DIRECTORY"""

import base64
import sys

SEGMENT, SEGMENTS, MASK = 4096, 56, 2**64 - 1


def fnv(token):
    value = 0xCBF29CE484222325
    for byte in token:
        value = (value ^ byte) * 0x100000001B3 & MASK
    return value


def mix(key, seed):
    value = key + seed & MASK
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ value >> 33) * factor & MASK
    return value ^ value >> 33


def places(value):
    first = value * (SEGMENT * (SEGMENTS - 2)) >> 64
    second = (first + SEGMENT) ^ (value >> 18 & SEGMENT - 1)
    return first, second, (first + 2 * SEGMENT) ^ (value & SEGMENT - 1)


def build(keys, seed):
    """The fingerprints or, if this seed leaves some keys without a place of their own, None."""
    count, union = [0] * (SEGMENT * SEGMENTS), [0] * (SEGMENT * SEGMENTS)
    for key in keys:
        value = mix(key, seed)
        for place in places(value):
            count[place] += 1
            union[place] ^= value
    waiting, order = [place for place, keys_here in enumerate(count) if keys_here == 1], []
    while waiting:
        own = waiting.pop()
        if count[own] != 1:
            continue
        value = union[own]
        order.append((value, own))
        for place in places(value):
            count[place] -= 1
            union[place] ^= value
            if count[place] == 1:
                waiting.append(place)
    if len(order) < len(keys):
        return None
    prints = bytearray(len(count))
    for value, own in reversed(order):
        wanted = (value ^ value >> 32) & 0xFF
        for place in places(value):
            if place != own:
                wanted ^= prints[place]
        prints[own] = wanted
    return prints


file, directory = sys.argv[1:]
with open(file) as lines:
    keys = sorted({fnv(base64.b64decode(line.split()[0])) for line in lines})
seed = 1
while (prints := build(keys, seed)) is None:
    seed += 1
with open(f"{directory}/o200k.filter", "wb") as output:
    output.write(prints)
with open(f"{directory}/o200k.seed", "w") as output:
    output.write(f"{seed}\n")
