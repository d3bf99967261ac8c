# Every module of the standard library that this build can have is importable.
import importlib
import sys

ABSENT = {
    # Native code or a system that is not there.
    "_bz2", "_ctypes", "_curses", "_curses_panel", "_dbm", "_gdbm", "_lzma", "_multiprocessing", "_posixshmem",
    "_posixsubprocess", "_scproxy", "_ssl", "_tkinter", "_winapi", "_zstd", "_hashlib", "_uuid", "fcntl", "grp", "mmap", "msvcrt",
    "nt", "ossaudiodev", "pwd", "readline", "resource", "spwd", "syslog", "termios", "winreg", "winsound",
    "_overlapped", "_wmi", "_msi", "_remote_debugging", "_interpchannels", "_interpqueues", "_interpreters",
    "_crypt", "_osx_support", "_android_support", "_ios_support", "_apple_support", "_testcapi",
    # What stands on those.
    "bz2", "ctypes", "curses", "lzma", "multiprocessing", "nturl2path", "pty", "ssl", "tkinter", "tty",
    "ensurepip", "idlelib", "turtle", "turtledemo", "venv", "antigravity", "this", "_pyrepl", "_aix_support",
    "concurrent", "dbm",
}
failed = []
for name in sorted(sys.stdlib_module_names - ABSENT):
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed.append(f"{name}: {error}")
print(failed)
import concurrent.futures, compression.gzip, dbm.dumb, email.mime.text, unittest.mock, xml.dom.minidom
import encodings.idna, json.tool, http.cookiejar, urllib.robotparser, wsgiref.simple_server, xmlrpc.client
