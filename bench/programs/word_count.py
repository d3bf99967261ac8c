"""Dictionaries and strings: counting the words of a text."""

WORDS = [f"{stem}{ending}" for stem in ("cap", "sand", "ker", "ses", "turn") for ending in range(400)]
TEXT = "\n".join(" ".join(WORDS[(line * 37 + i * 11) % len(WORDS)] for i in range(12)) for line in range(32_000))


def work():
    counts = {}
    for line in TEXT.split("\n"):
        for word in line.upper().split():
            counts[word] = counts.get(word, 0) + 1
    first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[0]
    return f"{len(counts)} {first[0]} {first[1]}"
