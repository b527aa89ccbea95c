"""Runs the checks, several at a time where they are independent, and sums them up.

    check.py all | lint | unit | rules | integration | molecule [SCENARIO...]

Each step writes to its own log; a failed one shows the end of it. The closing line `N passed, N failed`
counts test cases where a step reports them (pytest), and the step itself where it is one check (a linter).
"""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(os.environ["CHECKOUT"])
CACHE = Path(os.environ["DEPLOYMENT_MONITORING_CACHE"])
STATE = Path(os.environ["CHECKOUT_STATE"])
IMAGES = CHECKOUT / "tests/images/build.py"
HARNESS = CHECKOUT / "tests/harness"
RUN = str(HARNESS / "run")
DURATIONS = CACHE / "durations.json"

# More than there are cores: most scenarios wait most of the time, for an alert, a scrape, a machine that starts. While
# one does not wait but works, no other begins.
SIDE_BY_SIDE = 7
ALWAYS_SIDE_BY_SIDE = 2
USUALLY_SIDE_BY_SIDE = 4.5
ROOM_SHARE = 0.25
ROOM_SECONDS = 6
HEARTBEAT_SECONDS = 30
TAIL_LINES = 80
# For the logs: no colours, no cursor movements.
PLAIN_OUTPUT = {"NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1", "PY_COLORS": "0", "TERM": "dumb"}
FROM_NOTHING_MINUTES = 60
# What the first run goes by; later ones know better (DURATIONS).
FIRST_GUESS_SECONDS = {
    "molecule dashboards": 450.0,
    "molecule upgrade": 420.0,
    "molecule logs": 380.0,
    "molecule default": 370.0,
    "molecule faults": 300.0,
    "molecule daytwo": 280.0,
    "molecule backup": 200.0,
    "molecule second_host": 180.0,
    "molecule prometheus": 150.0,
    "molecule": 50.0,
    "images": 10.0,
    "image-tests": 70.0,
    "routing": 80.0,
    "rules": 75.0,
    "unit": 75.0,
    "integration": 230.0,
    "lint ansible-lint": 35.0,
}
IMAGES_COLD_SECONDS = 20 * 60.0


@dataclass
class Step:
    """One command with its own log; `junit` where it reports its test cases."""

    name: str
    command: list[str]
    junit: Path | None = None
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    result: str = "not run"
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return STATE / "logs" / f"{self.name.replace(' ', '-')}.log"

    def last_line(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip()[:100] for line in reversed(lines) if line.strip()), "")


def junit_file(name: str) -> Path:
    return STATE / "junit" / f"{name}.xml"


class Console:
    """Prints whole lines from several threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.began = time.monotonic()

    def say(self, text: str) -> None:
        with self.lock:
            print(f"[{time.monotonic() - self.began:5.0f} s] {text}", flush=True)

    def show_end(self, step: Step) -> None:
        lines = step.log.read_text(errors="replace").splitlines()
        with self.lock:
            print(f"----- {step.name}: last of {len(lines)} lines of {step.log}")
            print("\n".join(lines[-TAIL_LINES:]))
            print(f"----- end of {step.name}", flush=True)


CONSOLE = Console()


def known_durations() -> dict[str, float]:
    try:
        return json.loads(DURATIONS.read_text())
    except (OSError, ValueError):
        return {}


@functools.cache
def seconds_to_build_images() -> float:
    """What the images that were never built here will take."""
    # Without an engine yet it cannot tell.
    done = subprocess.run([sys.executable, IMAGES, "list"], capture_output=True, text=True, check=False)
    if done.returncode:
        return IMAGES_COLD_SECONDS
    return sum(float(seconds) for seconds in re.findall(r" missing +about (\d+) s", done.stdout))


def expected(step: Step, known: dict[str, float]) -> float:
    if step.name == "images" and seconds_to_build_images():
        return seconds_to_build_images()
    guess = FIRST_GUESS_SECONDS.get(step.name, FIRST_GUESS_SECONDS.get(step.name.split()[0], 10.0))
    return known.get(step.name, guess)


def read_junit(step: Step) -> None:
    """Takes the counts of test cases over; a report without any is a failure."""
    assert step.junit is not None
    try:
        suites = list(ElementTree.parse(step.junit).getroot().iter("testsuite"))
    except (OSError, ElementTree.ParseError):
        suites = []

    def total(attribute: str) -> int:
        return sum(int(suite.get(attribute, 0)) for suite in suites)

    step.failed = total("failures") + total("errors")
    step.skipped = total("skipped")
    step.passed = total("tests") - step.failed - step.skipped


class Gate:
    """Lets the next step begin when the processor has room for it."""

    def __init__(self) -> None:
        self.one_at_a_time = threading.Lock()
        self.inside: set[int] = set()

    def __enter__(self) -> None:
        with self.one_at_a_time:
            while len(self.inside) >= ALWAYS_SIDE_BY_SIDE and self.idle_share() < ROOM_SHARE:
                pass
            self.inside.add(threading.get_ident())

    def __exit__(self, *_: object) -> None:
        self.inside.discard(threading.get_ident())

    def idle_share(self) -> float:
        """Return which part of the processor's time nobody wanted, over some seconds."""
        before = self.times()
        time.sleep(ROOM_SECONDS)
        spent = [now - then for now, then in zip(self.times(), before, strict=True)]
        return spent[3] / sum(spent)

    @staticmethod
    def times() -> list[int]:
        """Return user, nice, system, idle, ...: the first line of proc_stat(5)."""
        return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


GATE = Gate()


def run(step: Step, known: dict[str, float]) -> None:
    CONSOLE.say(f"{step.name}: start, about {expected(step, known):.0f} s, log {step.log}")
    step.log.parent.mkdir(parents=True, exist_ok=True)
    if step.junit:
        step.junit.parent.mkdir(parents=True, exist_ok=True)
        step.junit.unlink(missing_ok=True)
    began = time.monotonic()
    with step.log.open("w") as log:
        log.write(f"$ {shlex.join(step.command)}\n")
        log.flush()
        process = subprocess.Popen(
            step.command,
            cwd=CHECKOUT,
            env=os.environ | PLAIN_OUTPUT | step.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        while True:
            try:
                code = process.wait(timeout=HEARTBEAT_SECONDS)
                break
            except subprocess.TimeoutExpired:
                CONSOLE.say(f"{step.name}: {time.monotonic() - began:.0f} s so far; {step.last_line()}")
    step.seconds = time.monotonic() - began

    if step.junit:
        read_junit(step)
        if code == 0 and not step.passed:
            with step.log.open("a") as log:
                log.write(f"no test passed according to {step.junit}: a step with tests must run some\n")
    else:
        step.passed = int(code == 0)
    good = code == 0 and step.passed > 0 and step.failed == 0
    if not good and not step.failed:
        step.failed = 1
    step.result = "ok" if good else "FAILED"
    CONSOLE.say(f"{step.name}: {step.result} after {step.seconds:.0f} s")
    if not good:
        CONSOLE.show_end(step)


def run_with_room(step: Step, known: dict[str, float]) -> None:
    with GATE:
        run(step, known)


def run_all(steps: list[Step], side_by_side: int = SIDE_BY_SIDE) -> bool:
    """Runs the steps, the longest first; true when all went well."""
    known = known_durations()
    longest_first = sorted(steps, key=lambda step: -expected(step, known))
    with ThreadPoolExecutor(side_by_side) as pool:
        list(pool.map(lambda step: run_with_room(step, known), longest_first))
    known |= {step.name: round(step.seconds, 1) for step in steps if step.result == "ok"}
    DURATIONS.write_text(json.dumps(known, indent=1, sort_keys=True))
    return all(step.result == "ok" for step in steps)


def lint_steps() -> list[Step]:
    build = STATE / "build"
    commands = {
        "yamllint": "yamllint --strict .",
        "ansible-lint": "ansible-lint --offline --profile production",
        "ruff": "ruff check .",
        "ruff-format": "ruff format --check --diff .",
        "antsibull-docs": "antsibull-docs lint-collection-docs --plugin-docs .",
        "argument-specs": "python tools/argument_specs.py --check",
        "changelog": "antsibull-changelog lint",
        "galaxy-build": f"ansible-galaxy collection build --force --output-path {shlex.quote(str(build))}",
    }
    return [Step(f"lint {name}", [RUN, *shlex.split(command)]) for name, command in commands.items()]


def pytest_step(name: str, folder: str) -> Step:
    report = junit_file(name)
    # The plugins are imported under the collection's name, as Ansible does.
    pytest = 'PYTHONPATH="$ANSIBLE_COLLECTIONS_PATH" exec pytest "$1" --junit-xml="$0"'
    return Step(name, [RUN, "bash", "-c", pytest, str(report), folder], junit=report)


def unit_step() -> Step:
    return pytest_step("unit", "tests/unit")


def integration_step() -> Step:
    return pytest_step("integration", "tests/integration")


def image_steps() -> list[Step]:
    """What needs the test images, or their tools, and no target."""
    folders = {"image-tests": "images", "routing": "routing", "rules": "rules"}
    return [pytest_step(name, f"tests/{folder}") for name, folder in folders.items()]


def scenario_names() -> list[str]:
    return sorted(path.parent.name for path in CHECKOUT.glob("molecule/*/molecule.yml"))


def scenario_steps(names: Iterable[str]) -> list[Step]:
    done = subprocess.run([RUN, "python", str(IMAGES), "seed"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode or not done.stdout.strip():
        sys.exit("the volume with the test images is missing: run 'make images' and read what it says")
    seed = done.stdout.split()[-1]
    return [
        Step(
            f"molecule {name}",
            [RUN, "molecule", "test", "--no-command-borders", "-s", name],
            junit=junit_file(f"molecule-{name}"),
            environment={"MONITORING_TEST_SEED": seed},
        )
        for name in names
    ]


def check_disk() -> None:
    # The Go builds keep their modules and objects.
    need = 25 if seconds_to_build_images() > 300 else 5
    CACHE.mkdir(parents=True, exist_ok=True)
    have = shutil.disk_usage(CACHE).free / 2**30
    if have < need:
        sys.exit(f"not enough disk: need {need} GiB at {CACHE}, have {have:.1f}")


def everything() -> tuple[list[Step], bool]:
    """All steps in their order; a step that the rest needs ends the run when it fails."""
    check_disk()
    setup = Step("setup", [str(HARNESS / "setup.sh")])
    engine = Step("engine", [str(HARNESS / "engine.sh")])
    images = Step("images", [RUN, "python", str(IMAGES), "seed"])
    checks = [*lint_steps(), unit_step(), integration_step()]
    known = known_durations()
    names = scenario_names()
    scenarios = sum(expected(Step(f"molecule {name}", []), known) for name in names)
    others = sum(expected(step, known) for step in (setup, engine, *checks, *image_steps()))
    minutes = (expected(images, known) + (scenarios + others) / USUALLY_SIDE_BY_SIDE) / 60
    CONSOLE.say(
        f"{len(checks)} static checks and {len(names)} scenarios; with what the cache holds now about"
        f" {minutes:.0f} minutes (from nothing: up to {FROM_NOTHING_MINUTES})"
    )

    steps = [setup, engine, *checks, images]
    if not (run_all([setup]) and run_all([engine])):
        return steps, False
    # Now there is an engine to ask.
    seconds_to_build_images.cache_clear()
    good = True
    if seconds_to_build_images():
        # The compilers take all cores for long: what is wrong with the tree is said before.
        good, checks = run_all(checks), []
    if not run_all([images]):
        return steps, False
    last = [*image_steps(), *scenario_steps(names)]
    good = run_all([*checks, *last]) and good
    return steps + last, good


def sum_up(steps: list[Step]) -> None:
    print(f"\n{'step':34} {'seconds':>8} {'passed':>7} {'failed':>7}  result")
    for step in steps:
        print(f"{step.name:34} {step.seconds:8.1f} {step.passed:7} {step.failed:7}  {step.result}")
    not_run = sum(step.result == "not run" for step in steps)
    if not_run:
        print(f"{not_run} steps were not run, because one that they need failed")
    passed, failed, skipped = (sum(getattr(s, key) for s in steps) for key in ("passed", "failed", "skipped"))
    print(f"\n{time.monotonic() - CONSOLE.began:.0f} s in all; logs in {STATE / 'logs'}")
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))


def main() -> None:
    what, *names = sys.argv[1:] or ["all"]
    unknown = sorted(set(names) - set(scenario_names()))
    if unknown:
        sys.exit(f"no such scenario: {', '.join(unknown)}; there are {', '.join(scenario_names())}")
    if what == "all":
        steps, good = everything()
    elif what in ("lint", "unit", "rules", "integration", "molecule"):
        steps = {
            "lint": lint_steps,
            "unit": lambda: [unit_step()],
            "rules": lambda: [pytest_step("rules", "tests/rules")],
            "integration": lambda: [integration_step()],
            "molecule": lambda: scenario_steps(names or scenario_names()),
        }[what]()
        good = run_all(steps)
    else:
        sys.exit(f"check.py: '{what}' is not one of all, lint, unit, rules, integration, molecule")
    sum_up(steps)
    sys.exit(not good)


if __name__ == "__main__":
    main()
