"""Strings: built, formatted, replaced and joined."""


def work():
    rows = []
    for i in range(50_000):
        row = f"{i:>6}|{i * 0.5:8.2f}|" + "x" * (i % 7)
        if i % 3 == 0:
            row = row.replace("x", "yz").strip()
        rows.append(row.title())
    text = ""
    for row in rows:
        text += row[:9]
    page = "\n".join(rows)
    return f"{len(text)} {len(page)} {page.count('Yz')} {len(page.encode())}"
