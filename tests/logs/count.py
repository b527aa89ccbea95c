#!/usr/bin/env python3
"""Which numbered lines of writer.py Loki has: how many are lost, how many are there twice. Runs on the target.

count.py JOB FIRST LAST SINCE UNTIL      numbers FIRST to LAST, written between two times (seconds since 1970)
"""

from __future__ import annotations

import json
import re
import sys
import urllib.parse
import urllib.request
from collections import Counter

LOKI = "http://127.0.0.1:3100/loki/api/v1/query_range"
NUMBER = re.compile(r"line (\d{9})")
# A query returns 5,000 lines; the writer makes fewer in this many seconds.
WINDOW = 2


def numbers(job: str, since: float, until: float) -> Counter[int]:
    """Return how often each number is there."""
    found: Counter[int] = Counter()
    start = since
    while start < until:
        ask = {
            "query": f'{{job="{job}"}}',
            "start": f"{int(start * 1e9)}",
            "end": f"{int((start + WINDOW) * 1e9)}",
            "limit": "5000",
            "direction": "forward",
        }
        with urllib.request.urlopen(f"{LOKI}?{urllib.parse.urlencode(ask)}", timeout=60) as answer:
            streams = json.load(answer)["data"]["result"]
        lines = [line for stream in streams for _at, line in stream["values"]]
        assert len(lines) < 5000, "the window is too large"
        found.update(int(match.group(1)) for line in lines for match in NUMBER.finditer(line))
        start += WINDOW
    return found


def main(job: str, first: int, last: int, since: float, until: float) -> None:
    """Print the result as JSON."""
    found = numbers(job, since, until)
    lost = [number for number in range(first, last + 1) if not found[number]]
    doubled = sum(found[number] - 1 for number in range(first, last + 1) if found[number] > 1)
    print(
        json.dumps({"written": last - first + 1, "lost": len(lost), "doubled": doubled, "lost_numbers": lost[:20000]})
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
