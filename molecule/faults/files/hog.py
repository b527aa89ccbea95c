"""Takes real memory, piece by piece, until a little more is used than MemoryCritical's limit says; then holds it."""

import re
import time
from pathlib import Path

RULES = Path("/etc/deployment-monitoring/prometheus/rules/host.yml").read_text()
LIMIT = float(re.search(r"node_memory_MemTotal_bytes > 0\)\) > (\S+)", RULES)[1])
# The machine that carries the target has other work to do.
assert LIMIT <= 80, LIMIT
PIECE = 64 << 20
FULL = Path("/run/hog-full")

held = []
while True:
    told = dict(re.findall(r"(\w+):\s+(\d+)", Path("/proc/meminfo").read_text()))
    used = 100 * (1 - int(told["MemAvailable"]) / int(told["MemTotal"]))
    if used > LIMIT and not FULL.exists():
        FULL.touch()
    if used < LIMIT + 2:
        held.append(b"x" * PIECE)
    else:
        time.sleep(0.5)
