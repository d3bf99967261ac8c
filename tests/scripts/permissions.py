import io
import os
import pathlib
import shutil
import stat
import tarfile
import tempfile
import zipfile

os.makedirs("tree/inner")
pathlib.Path("tree/file").write_text("text")
os.symlink("file", "tree/link")
for path in ("tree", "tree/file", "tree/link"):
    print(path, *(stat.filemode(how(path).st_mode) for how in (os.stat, os.lstat)))
with open("tree/file") as file:
    print(stat.filemode(os.fstat(file.fileno()).st_mode), stat.filemode(os.stat(file.fileno()).st_mode))
result = os.stat("tree/file")
assert result.st_size == result[6] == 4 and result.st_mtime_ns // 10**9 == int(result.st_mtime) == result[8]
assert isinstance(result, os.stat_result) and os.path.samestat(result, os.lstat("tree/file"))
for entry in sorted(os.scandir("tree"), key=lambda entry: entry.name):
    print(entry.name, stat.filemode(entry.stat(follow_symlinks=False).st_mode), stat.filemode(entry.stat().st_mode))
print([(root, sorted(folders), sorted(files)) for root, folders, files in os.walk("tree")])
tarfile.open(shutil.make_archive("whole", "gztar", "tree")).list(verbose=False)
print([(member.name, oct(member.mode)) for member in tarfile.open("whole.tar.gz")])
with zipfile.ZipFile("whole.zip", "w") as archive:
    archive.write("tree/file")
    archive.write("tree/inner")
print([(entry.filename, oct(entry.external_attr >> 16)) for entry in zipfile.ZipFile("whole.zip").infolist()])
with tarfile.open(fileobj=io.BytesIO(), mode="w") as archive:
    archive.add("tree/link")
    print(archive.getmembers()[0].issym(), oct(archive.getmembers()[0].mode))
tarfile.open("whole.tar.gz").extractall("out", filter="data")
print(shutil.copy("tree/file", "copied"), shutil.copy2("tree/file", "copied2"), shutil.copytree("tree", "copy"))
print(sorted(path.as_posix() for path in pathlib.Path("out").rglob("*")), pathlib.Path("copied").read_text())
with tempfile.TemporaryDirectory() as directory:
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o755
shutil.rmtree("tree")
print(os.path.exists("tree"), os.stat in os.supports_follow_symlinks, os.stat in os.supports_dir_fd)
for call in (lambda: os.stat("tree"), lambda: os.stat(), lambda: os.stat("x", follow=1), lambda: os.fstat(99)):
    try:
        call()
    except (OSError, TypeError) as error:
        print(type(error).__name__, error)
