# What this build lacks and is there all the same, and what says that it is not.
import hashlib
import os
import shutil
import signal
import time

start = time.process_time(), time.process_time_ns(), time.thread_time(), time.thread_time_ns()
assert 0 <= start[0] < 10 and start[1] >= 0 and start[2] >= start[0] and start[3] >= start[1]
assert time.process_time_ns() > start[1] and isinstance(start[1], int)
assert 0 <= os.times().user < 10
# RFC 6070, and RFC 7914 for SHA-256.
for arguments, expected in (
    (("sha1", b"password", b"salt", 1, 20), "0c60c80f961f0e71f3a9b524af6012062fe037a6"),
    (("sha1", b"password", b"salt", 4096, 20), "4b007901b765489abead49d926f721d065a429c1"),
    (
        ("sha1", b"passwordPASSWORDpassword", b"saltSALTsaltSALTsaltSALTsaltSALTsalt", 4096, 25),
        "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038",
    ),
    (("sha1", b"pass\0word", b"sa\0lt", 4096, 16), "56fa6aa75548099dcc37d7f03425e0c3"),
    (
        ("sha256", b"passwd", b"salt", 1, 64),
        "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
        "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783",
    ),
    (
        ("SHA256", bytearray(b"password"), memoryview(b"salt"), 2),
        "ae4d0c95af6b46d32d0adff928f06dd02a303f8ef3c251dfd6e2d85a95474c43",
    ),
):
    assert hashlib.pbkdf2_hmac(*arguments).hex() == expected, arguments
assert hashlib.pbkdf2_hmac("sha256", b"x" * 200, b"", 3) == hashlib.pbkdf2_hmac(
    "sha256", hashlib.sha256(b"x" * 200).digest(), b"", 3
)
for arguments in (("no", b"", b"", 1), ("sha1", "p", b"", 1), ("sha1", b"", b"", 0), ("sha1", b"", b"", 1, 0)):
    try:
        hashlib.pbkdf2_hmac(*arguments)
    except (ValueError, TypeError) as error:
        print(type(error).__name__, error)
for call in (
    lambda: os.kill(1, 9), lambda: os.execv("/bin/ls", ["ls"]), lambda: os.execvp("ls", ["ls"]), os.get_terminal_size,
):
    try:
        call()
    except OSError as error:
        print(error)
print(shutil.get_terminal_size(), os.cpu_count())
print([name for name in ("getuid", "umask", "statvfs", "getppid", "waitpid") if hasattr(os, name)])
print(hasattr(signal, "alarm"), hasattr(shutil, "disk_usage"))
