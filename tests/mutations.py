"""Valid bytes, text and values, changed at random: what the tests and `benchmarks/fuzz.py` put to every door."""

import json
import re
import struct
import zlib

EXTREMES = [b"\x00" * 8, b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\x01" + b"\x00" * 7, b"\x00\x00\x00\x80" * 2]


def changed(data, random):
    """A copy with one to eight random changes: bits, bytes, lengths and offsets, parts taken out, doubled, put in."""
    data = bytearray(data)
    for _ in range(random.choice([1, 1, 1, 1, 1, 2, 4, 8])):
        place = random.randrange(len(data) or 1)
        size = random.choice([1, 2, 4, 8])
        kind = random.randrange(8)
        if kind == 0:
            data[place : place + 1] = bytes([(data[place : place + 1] or b"\0")[0] ^ 1 << random.randrange(8)])
        elif kind == 1:
            data[place : place + size] = random.randbytes(size)
        elif kind == 2:
            data[place : place + size] = random.choice(EXTREMES)[-size:]
        elif kind == 3:  # a length or an offset that is a little or entirely another
            place -= place % size
            number = int.from_bytes(data[place : place + size], "little")
            number = random.choice([number + 1, number - 1, 2 * number, len(data), random.randrange(len(data) or 1)])
            data[place : place + size] = (number % (1 << 8 * size)).to_bytes(size, "little")
        elif kind == 4:
            del data[place : place + random.randrange(1, 64)]
        elif kind == 5:
            data[place:place] = random.randbytes(random.randrange(1, 64))
        elif kind == 6:
            data[place:place] = data[random.randrange(len(data) or 1) :][: random.randrange(1, 200)]
        else:
            del data[random.choice([place, len(data) - size, len(data) // 2]) :]
    return bytes(data)


# Text and values ----------------------------------------------------------------------------------------------------

NUMBERS = [0, 1, -1, 2, 3, 255, 256, 2**31, -(2**31), 2**63, 2**64, 10**30, 0.5, -0.5, 1e-30, 1e300, True, False]
VALUES = [None, "", " ", "\0", "\ud800", "nan", "../..", "x" * 5000, "\u202e", "1", [], {}, [[]], [None], {"": None}]


def odd_value(random):
    """Something that JSON holds and that few expect."""
    kind = random.randrange(8)
    if kind < 3:
        return random.choice(NUMBERS)
    if kind < 6:
        return random.choice(VALUES)
    if kind == 6:
        return [odd_value(random) for _ in range(random.randrange(5))]
    return float(random.choice(["nan", "inf", "-inf"]))


def changed_value(value, random, most=4):
    """A copy of a value of JSON with one to `most` of its parts another one, gone, doubled, renamed or nested."""
    value = json.loads(json.dumps(value))
    for _ in range(random.randrange(1, most + 1)):
        holder = {"": value}
        place, key = random.choice(list(_places(holder)))
        kind = random.randrange(8)
        if kind == 0 and place is not holder:
            del place[key]
        elif kind == 1 and isinstance(place, dict) and place is not holder:
            place[random.choice(["x", "", "id", key.upper()])] = place.pop(key)
        elif kind == 2 and isinstance(place, list):
            place.insert(key, json.loads(json.dumps(place[key])))
        elif kind == 3:
            place[key] = [place[key]] if random.randrange(2) else {"x": place[key]}
        elif kind == 4 and isinstance(place[key], (int, float)):
            place[key] = random.choice([place[key] + 1, -place[key], place[key] * 10**6, str(place[key])])
        elif kind == 5:
            other, name = random.choice(list(_places(holder)))
            place[key] = json.loads(json.dumps(other[name]))
        else:
            place[key] = odd_value(random)
        value = holder[""]
    return value


def _places(holder):
    """(what holds it, key or index) of each value inside a value, itself among them."""
    for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
        yield holder, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


def changed_json(data, random):
    """The bytes of a JSON file, or of one with an object a line, with values changed in it."""
    lines = data.split(b"\n") if b"\n{" in data.strip() else [data]
    chosen = random.choice([number for number, line in enumerate(lines) if line.strip()])
    if not random.randrange(30):
        lines[chosen] = b"[" * 100_000 if random.randrange(2) else b'{"a":' * 100_000
    else:
        lines[chosen] = json.dumps(changed_value(json.loads(lines[chosen]), random)).encode()
    return b"\n".join(lines)


def changed_text(data, random):
    """The bytes of a text with words, numbers and lines changed in it."""
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(random.choice([1, 1, 2, 4])):
        words = [match.span() for match in re.finditer(r"[\w.+-]+|[^\w\s]", text)] or [(0, 0)]
        (begin, end), (first, last) = random.choice(words), random.choice(words)
        kind = random.randrange(7)
        if kind == 0:
            text = text[:begin] + text[end:]
        elif kind == 1:
            text = text[:begin] + text[first:last] + text[end:]
        elif kind == 2:
            text = text[:begin] + str(random.choice(NUMBERS)) + text[end:]
        elif kind == 3:
            value = random.choice(VALUES)
            text = text[:begin] + (value if isinstance(value, str) else json.dumps(value)) + text[end:]
        elif kind == 4:
            lines = text.split("\n")
            lines.insert(random.randrange(len(lines) + 1), random.choice(lines))
            text = "\n".join(lines)
        elif kind == 5:
            lines = text.split("\n")
            del lines[random.randrange(len(lines))]
            text = "\n".join(lines)
        else:
            text = text[:begin] + text[begin : begin + 200] * random.choice([2, 50]) + text[end:]
    return text.encode("utf-8", "surrogatepass" if "\ud800" in text else "surrogateescape")


def changed_png(data, random):
    """The bytes of a PNG file with a chunk's content changed, or what the pixels' unpack to, and checksums right."""
    place, chunks = 8, []
    while place + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        chunks.append((kind, data[place + 8 : place + 8 + size]))
        place += 12 + size
    chosen = random.randrange(len(chunks))
    made = data[:8]
    for number, (kind, content) in enumerate(chunks):
        if number == chosen and kind == b"IDAT" and random.randrange(2):
            content = zlib.compress(changed(zlib.decompress(content), random))
        elif number == chosen:
            content = changed(content or b"\0", random)
        made += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return made


BY_ENDING = {
    ".png": changed_png,
    **dict.fromkeys((".json", ".jsonl"), changed_json),
    **dict.fromkeys((".txt", ".csv", ".xml", ".yaml", ".yml", ".py", ".config", ".md"), changed_text),
}


class Files:
    """Valid files, `{name: bytes}`, the first of which is what is opened; and how they are changed.

    Args:
        content: the files.
        inside: a function from a random.Random to those of the files that it changed under what checksums and headers
            notice; None to change text and JSON by their structure.
    """

    def __init__(self, content, inside=None):
        self.content, self.inside = content, inside

    @classmethod
    def below(cls, folder, first=None):
        """All files of a folder and its subfolders."""
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        if first is not None:
            names.sort(key=lambda name: name != first)
        return cls({name: (folder / name).read_bytes() for name in names})

    def changed(self, random, below=False):
        """All of the files, one of them changed as bytes, or, `below`, inside."""
        if below and self.inside is not None:
            return {**self.content, **self.inside(random)}
        name = random.choice(list(self.content))
        change = BY_ENDING.get(name[name.rfind(".") :], changed) if below else changed
        try:
            return {**self.content, name: change(self.content[name], random)}
        except (ValueError, zlib.error):  # what can't be written or unpacked as such
            return {**self.content, name: changed(self.content[name], random)}


# TensorFlow's tables of names have a checksum for each block. --------------------------------------------------------


def changed_table(data, random):
    """A table with some bytes of a block changed and its checksums right."""
    blocks, data = table_blocks(data), bytearray(data)
    begin, size = random.choice(blocks)
    block = changed(bytes(data[begin : begin + size]), random)
    data[begin : begin + size] = (block + bytes(size))[:size]
    for begin, size in blocks:
        checksum = crc32c(data[begin : begin + size + 1])
        masked = ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
        struct.pack_into("<I", data, begin + size + 1, masked)
    return bytes(data)


def table_blocks(data):
    """(place, size) of the blocks of a table: those of its rows, and the one that lists them."""
    place = len(data) - 48
    _, place = varint(data, place)
    _, place = varint(data, place)
    begin, place = varint(data, place)
    size, place = varint(data, place)
    blocks, place = [(begin, size)], begin
    restarts = int.from_bytes(data[begin + size - 4 : begin + size], "little")
    while place < begin + size - 4 * (restarts + 1):
        _, place = varint(data, place)
        unshared, place = varint(data, place)
        length, place = varint(data, place)
        first, rest = varint(data, place + unshared)
        count, _ = varint(data, rest)
        if first + count + 5 <= len(data) - 48:
            blocks.append((first, count))
        place += unshared + length
    return blocks


def varint(data, place):
    value = shift = 0
    while True:
        value |= (data[place] & 127) << shift
        shift += 7
        place += 1
        if data[place - 1] < 128:
            return value, place


_CRC = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte >> 1 ^ (0x82F63B78 if _byte & 1 else 0)
    _CRC.append(_byte)


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = _CRC[(value ^ byte) & 255] ^ value >> 8
    return value ^ 0xFFFFFFFF
