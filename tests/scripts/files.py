import csv
import json
import os
import pathlib
import shutil
import sqlite3
import tempfile
import zipfile

assert os.getcwd() == "/workspace" and os.listdir() == []
path = pathlib.Path("data/deep")
path.mkdir(parents=True)
(path / "a.json").write_text(json.dumps({"ü": [1, 2]}), encoding="utf-8")
print(json.loads((path / "a.json").read_text(encoding="utf-8")))
with open("rows.csv", "w", newline="") as file:
    csv.writer(file).writerows([("a", "b"), (1, 2)])
print(list(csv.DictReader(open("rows.csv"))))
with zipfile.ZipFile("all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.write("rows.csv")
print(zipfile.ZipFile("all.zip").namelist())
os.rename("rows.csv", "data/rows.csv")
os.symlink("rows.csv", "data/link.csv")
print(sorted(os.listdir("data")), os.readlink("data/link.csv"), open("data/link.csv").readline().strip())
with tempfile.NamedTemporaryFile() as temporary:
    temporary.write(b"x")
with tempfile.TemporaryDirectory() as directory:
    assert directory.startswith("/workspace")
database = sqlite3.connect("kept.db")
database.execute("create table t (n integer)")
database.executemany("insert into t values (?)", [(n,) for n in range(10)])
database.commit()
print(database.execute("select count(*), sum(n) from t").fetchone())
database.close()
print(sqlite3.connect("kept.db").execute("select max(n) from t").fetchone())
shutil.copytree("data", "copy", symlinks=True)
shutil.rmtree("data")
print(sorted(p.as_posix() for p in pathlib.Path(".").rglob("*")))
print(pathlib.Path("copy/rows.csv").stat().st_size, os.path.getmtime("copy/rows.csv") > 1.6e9)
os.utime("copy/rows.csv", (1, 2))
print(os.stat("copy/rows.csv").st_mtime)
with open("sparse", "wb") as file:
    file.seek(1000)
    file.write(b"end")
print(os.path.getsize("sparse"), open("sparse", "rb").read(3))
