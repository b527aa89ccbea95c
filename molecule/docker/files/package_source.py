"""Make what apt has downloaded its only source of packages, with all its lists empty."""

import glob
import hashlib
import os
import shutil
import subprocess
import sys

TARGET = sys.argv[1]
os.mkdir(TARGET)
entries = []
for path in sorted(glob.glob("/var/cache/apt/archives/*.deb")):
    place = shutil.move(path, TARGET)
    with open(place, "rb") as reader:
        digest = hashlib.sha256(reader.read()).hexdigest()
    fields = subprocess.run(["dpkg-deb", "--field", place], capture_output=True, text=True, check=True).stdout
    size = os.path.getsize(place)
    entries.append(f"{fields}Filename: ./{os.path.basename(place)}\nSize: {size}\nSHA256: {digest}\n")
with open(os.path.join(TARGET, "Packages"), "w") as writer:
    writer.write("\n".join(entries))
for path in ["/var/lib/apt/lists", *glob.glob("/etc/apt/sources.list*")]:
    if os.path.isdir(path):
        shutil.rmtree(path)
        os.mkdir(path)
    else:
        os.unlink(path)
with open("/etc/apt/sources.list", "w") as writer:
    writer.write(f"deb [trusted=yes] file:{TARGET} ./\n")
