"""Retention really deletes: the chunk of a line that is too old goes from the disk, that of a fresh one stays."""

from __future__ import annotations

import base64
import time
from urllib.parse import urlencode

LOKI = "http://127.0.0.1:3100"
DATA = "/var/lib/deployment-monitoring/loki"
DAY = 86400


def ages(host):
    """The ages in days of all chunks on the disk; their names say from when to when they go."""
    names = host.check_output(f"find {DATA}/chunks/fake -type f -printf '%f\\n' 2>/dev/null || true").split()
    begins = (int(base64.b64decode(name).split(b":")[0], 16) / 1000 for name in names)
    return sorted(int((time.time() - begin) / DAY) for begin in begins)


def found(http, mark):
    """How many lines with a mark there are."""
    now = int(time.time())
    ask = {"query": f'{{job="retention"}} |= "{mark}"', "start": now - 9 * DAY, "end": now + 60}
    answer = http.get(f"{LOKI}/loki/api/v1/query_range?{urlencode(ask)}")
    return sum(len(stream["values"]) for stream in answer.json()["data"]["result"]) if answer.status == 200 else 0


def restart(host, http, wait_until):
    """What Loki holds in memory goes to the disk, and its sweeper looks at once when it starts, then once a minute."""
    host.check_output("docker restart -t 63 loki")
    wait_until(lambda: http.get(f"{LOKI}/ready").status == 200, what="Loki", timeout=60)


def test_a_line_of_eight_days_is_deleted_from_the_disk_and_a_fresh_one_stays(host, http, wait_until):
    begin, mark = time.time(), f"mark{time.time_ns()}"
    for age in (0, 8):
        stream = {
            "stream": {"job": "retention", "age": str(age)},
            "values": [[str(time.time_ns() - age * DAY * 10**9), f"{mark} {age} days"]],
        }
        assert http.post(f"{LOKI}/loki/api/v1/push", {"streams": [stream]}).status == 204
    restart(host, http, wait_until)
    assert {0, 8} <= set(ages(host))
    marks = f"find {DATA}/compactor -path '*marker*' -type f -size +0 -newermt @{begin:.0f} | grep -q ."
    wait_until(lambda: host.run(marks).rc == 0, what="its chunk to be marked", timeout=60)
    time.sleep(1)
    restart(host, http, wait_until)
    wait_until(lambda: 8 not in ages(host), what="the chunk to be gone from the disk", timeout=70)
    assert 0 in ages(host)
    wait_until(lambda: found(http, mark) == 1, what="the fresh line", timeout=30)
