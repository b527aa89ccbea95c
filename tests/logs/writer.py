#!/usr/bin/env python3
"""Writes numbered lines, and says how many: for the test that nothing is lost. Runs on the target.

    writer.py FILE RATE SECONDS      appends RATE lines a second to FILE for SECONDS, or until it is told to stop

It opens the file anew for each tenth of a second, in append mode, so that rotation by rename and by truncation both
meet what programs do. The number of the last line is written to FILE.count after each tenth.
"""

from __future__ import annotations

import datetime
import os
import signal
import sys
import time
from pathlib import Path


def main(path: Path, rate: int, seconds: float) -> None:
    """Write until the time is over or SIGTERM comes."""
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    counter = path.with_name(path.name + ".count")
    # After a restart of the machine it goes on where the file ends.
    number = int(counter.read_text()) if counter.exists() else 0
    begin = time.monotonic()
    batch = max(1, rate // 10)
    turn = 0
    while not stopped and time.monotonic() - begin < seconds:
        with open(path, "a") as file:
            for _ in range(batch):
                number += 1
                at = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
                file.write(f'{{"timestamp":"{at}","level":"info","message":"line {number:09d} {"x" * 60}"}}\n')
        new = counter.with_suffix(".new")
        new.write_text(str(number))
        os.replace(new, counter)
        turn += 1
        time.sleep(max(0.0, begin + turn / 10 - time.monotonic()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
