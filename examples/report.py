"""Reads a Rust project in its workspace and writes a report about it.

    cargo run -- run --workspace . examples/report.py

It needs nothing but the directory: it parses Cargo.lock, counts the lines of the sources, and writes
report.md into the workspace.
"""

import collections
import os
import sys
import tomllib
from pathlib import Path

SKIPPED = {"target", ".git", "node_modules"}


def packages(lock: Path) -> list[dict]:
    with lock.open("rb") as file:
        return tomllib.load(file)["package"]


def sources(root: Path):
    for directory, folders, files in os.walk(root):
        folders[:] = sorted(folder for folder in folders if folder not in SKIPPED)
        for file in sorted(files):
            if file.endswith((".rs", ".py", ".wit")):
                yield Path(directory, file)


def main(out: str) -> None:
    root = Path(".")
    found = packages(root / "Cargo.lock")
    versions = collections.defaultdict(set)
    for package in found:
        versions[package["name"]].add(package["version"])
    twice = {name: sorted(all) for name, all in sorted(versions.items()) if len(all) > 1}
    needed = collections.Counter(name.split()[0] for package in found for name in package.get("dependencies", []))

    lines, files = collections.Counter(), collections.Counter()
    longest = []
    for path in sources(root):
        count = path.read_text(encoding="utf-8").count("\n")
        lines[path.suffix] += count
        files[path.suffix] += 1
        longest.append((count, path.as_posix()))

    report = ["# Report", "", f"{len(found)} packages in Cargo.lock, {len(twice)} of them in two versions or more.", ""]
    report += [f"- `{name}`: {', '.join(all)}" for name, all in twice.items()]
    report += ["", "Needed by most:", ""]
    report += [f"- `{name}` by {count}" for name, count in needed.most_common(5)]
    report += ["", "| language | files | lines |", "|---|---|---|"]
    report += [f"| {suffix[1:]} | {files[suffix]} | {count} |" for suffix, count in lines.most_common()]
    report += ["", "Longest files:", ""]
    report += [f"- {path}: {count} lines" for count, path in sorted(longest, reverse=True)[:5]]
    Path(out).write_text("\n".join(report) + "\n", encoding="utf-8")
    print("\n".join(report))
    print(f"\nwritten to {out}", file=sys.stderr)


main(sys.argv[1] if len(sys.argv) > 1 else "report.md")
