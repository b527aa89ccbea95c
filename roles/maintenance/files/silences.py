# Copyright: nekocheik and contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Alertmanager's file of silences, made from what its API tells.

Alertmanager writes that file every quarter of an hour and when it stops; a copy of it would lack the newest silences.
Given back through the API they would get other ids and other times. So the file is written here as Alertmanager would:
records of its protocol buffers (silence.proto), each after its length. Those numbers have been the same since 0.25.
"""

from __future__ import annotations

import datetime
import re
import typing as t

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
_TYPES = {(True, False): 0, (True, True): 1, (False, False): 2, (False, True): 3}


def state_file(silences: list[dict[str, t.Any]], retention: str) -> bytes:
    """Return the file's content.

    :param silences: as the API's version 2 tells them.
    :param retention: how long Alertmanager keeps a silence that is over, C(120h).
    """
    kept = duration(retention)
    return b"".join(_block(_record(silence, kept)) for silence in silences)


def duration(text: str) -> float:
    """Return the seconds of a duration as these programs write it, C(1h30m)."""
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", text))


def _record(silence: dict[str, t.Any], kept: float) -> bytes:
    starts, ends, updated = (_moment(silence[key]) for key in ("startsAt", "endsAt", "updatedAt"))
    parts = [_field(1, silence["id"].encode())]
    for matcher in silence["matchers"]:
        kind = _TYPES[(matcher.get("isEqual", True), matcher["isRegex"])]
        parts.append(
            _field(
                2,
                (_key(1, 0) + _varint(kind) if kind else b"")
                + _field(2, matcher["name"].encode())
                + _field(3, matcher["value"].encode()),
            )
        )
    parts += [_field(3, _timestamp(starts)), _field(4, _timestamp(ends)), _field(5, _timestamp(updated))]
    parts += [_field(8, silence["createdBy"].encode()), _field(9, silence["comment"].encode())]
    for name, value in sorted((silence.get("annotations") or {}).items()):
        parts.append(_field(10, _field(1, name.encode()) + _field(2, value.encode())))
    expires = ends + datetime.timedelta(seconds=kept)
    return _field(1, b"".join(parts)) + _field(2, _timestamp(expires))


def _moment(text: str) -> datetime.datetime:
    # Python before 3.11 reads neither a Z nor other than three or six digits.
    whole, _, fraction = text.rstrip("Z").partition(".")
    moment = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.timezone.utc)
    return moment + datetime.timedelta(microseconds=int((fraction + "000000")[:6]))


def _timestamp(moment: datetime.datetime) -> bytes:
    seconds = int((moment.replace(microsecond=0)).timestamp())
    nanos = moment.microsecond * 1000
    return _key(1, 0) + _varint(seconds) + (_key(2, 0) + _varint(nanos) if nanos else b"")


def _field(number: int, data: bytes) -> bytes:
    return _key(number, 2) + _block(data)


def _block(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
