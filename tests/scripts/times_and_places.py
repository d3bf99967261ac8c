import datetime
import locale
import platform
import sys
import time
import zoneinfo

berlin = datetime.datetime(2026, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
print(berlin.isoformat(), berlin.astimezone(zoneinfo.ZoneInfo("America/New_York")).isoformat())
print(len(zoneinfo.available_timezones()) > 400)
try:
    zoneinfo.ZoneInfo("Europe/Nowhere")
except zoneinfo.ZoneInfoNotFoundError as error:
    print(error)
assert abs(time.time() - datetime.datetime.now(datetime.UTC).timestamp()) < 1
start = time.monotonic()
time.sleep(0.02)
assert 0.02 <= time.monotonic() - start < 5
assert time.time() > 1.7e9
print(time.tzname, sys.platform, platform.python_implementation(), sys.version_info[:2], sys.byteorder)
print(sys.flags.utf8_mode or sys.getfilesystemencoding())
