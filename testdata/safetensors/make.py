#!/usr/bin/env python3
"""Writes the safetensors fixtures beside this script, and their lines in
README.md, and the seeds of the fuzz target in safetensors/testdata/fuzz.
Needs only the standard library. What each file must give is in
safetensors/fixtures_test.go."""

import pathlib
import re
import struct

HERE = pathlib.Path(__file__).resolve().parent
SEEDS = HERE.parents[1] / "safetensors/testdata/fuzz/FuzzReadHeader"
FIXTURES = {}  # name -> (what it is, bytes)


def add(name, what, header, data=b"", claim=None):
    """A file: length (claim, if that is a lie), header, data."""
    header = header.encode() if isinstance(header, str) else header
    claim = len(header) if claim is None else claim
    FIXTURES[name] = (what, struct.pack("<Q", claim) + header + data)


def raw(name, what, content):
    FIXTURES[name] = (what, content)


def entry(name, dtype, shape, begin, end):
    return f'"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}'


def one(name, what, dtype, shape, begin, end, size=None):
    """A file with one tensor, w."""
    add(name, what, "{" + entry("w", dtype, shape, begin, end) + "}",
        bytes(end if size is None else size))


U8 = entry("w", "U8", [4], 0, 4)
FIELDS = '"dtype":"U8","shape":[4],"data_offsets":[0,4]'


def odd_but_valid():
    padded = "{" + entry("a", "F32", [2, 2], 0, 16) + "," + entry("b", "BF16", [3], 16, 22) + "}"
    add("plain", "two tensors, the header padded with spaces to 8 bytes",
        padded + " " * (-len(padded) % 8), bytes(range(22)))
    one("unpadded", "the header's length is odd, so the data is not aligned", "BF16", [3], 0, 6)
    add("white_space", "white space of all four kinds inside and after the JSON",
        "{ \t\r\n" + U8.replace(":", " :\n") + "}\n\t\r ", bytes(4))
    add("no_tensors", "an empty object and no data", "{}")
    add("metadata", "metadata with escapes, and no tensors",
        r'{"__metadata__":{"format":"pt","q\"\\\/\b\f\n\r\t":"\u00e9\ud83d\ude00é😀"}}')
    add("metadata_null", "metadata is null, which the reference takes for none",
        '{"__metadata__":null,' + U8 + "}", bytes(4))
    add("metadata_escaped_key", "the key of the metadata is spelt with an escape",
        r'{"__metadata\u005f_":{"a":"b"}}')
    add("empty_tensor", "empty tensors before, between and after one of 4 bytes",
        "{" + ",".join([entry("last", "F32", [3, 0], 4, 4), entry("w", "U8", [4], 0, 4),
                        entry("z", "U8", [0], 0, 0), entry("y", "I64", [0, 2], 0, 0)]) + "}",
        bytes(4))
    one("rank0", "a scalar: the shape is []", "F64", [], 0, 8)
    add("reverse_order", "the JSON lists the tensors from the last to the first",
        "{" + entry("c", "U8", [1], 6, 7) + "," + entry("b", "F16", [1], 4, 6) + ","
        + entry("a", "F32", [1], 0, 4) + "}", bytes(7))
    one("unknown_dtype", "a dtype of the future, whose size nobody knows", "F2_E1M0", [5], 0, 3)
    one("unknown_dtype_huge_shape", "an unknown dtype with a shape that overflows",
        "Q1", [2**63, 2], 0, 3)
    one("f4_even", "two elements of 4 bits fill one byte", "F4", [2], 0, 1)
    one("f6_four", "four elements of 6 bits fill three bytes", "F6_E2M3", [2, 2], 0, 3)
    one("shape_zero_first", "a zero in front of dimensions that would overflow",
        "U8", [0, 2**63, 2], 0, 0)
    add("unknown_field", "an entry has fields that nobody knows, with values of every kind",
        "{" + U8[:-1] + r',"x":[1,-2.5e+3,0,true,false,null,{"y":["\u0041é"]}],"z":{}}}', bytes(4))
    add("unknown_field_twice", "a field that nobody knows occurs twice",
        "{" + U8[:-1] + ',"x":1,"x":2}}', bytes(4))
    add("nesting_limit", "values nested 127 deep, the most that is allowed",
        "{" + U8[:-1] + ',"x":' + "[" * 125 + "]" * 125 + "}}", bytes(4))
    add("strange_names", "names that are empty, or hold NUL, '/' and newlines",
        "{" + entry("", "U8", [1], 0, 1) + "," + entry(r"a\u0000b", "U8", [1], 1, 2) + ","
        + entry(r"../\n", "U8", [1], 2, 3) + "}", bytes(3))


def truncated():
    raw("empty_file", "no bytes at all", b"")
    raw("seven_bytes", "ends inside the header's length", b"\x02\0\0\0\0\0\0")
    raw("length_only", "ends after the header's length", b"\x02\0\0\0\0\0\0\0")
    add("huge_claim", "claims a header of 99,999,999 bytes and has two", "{}", claim=99_999_999)
    add("cut_header", "ends in the middle of the header", "{" + U8[:20], claim=len(U8) + 2)


def broken_json():
    add("over_limit", "claims a header one byte longer than allowed", "{}", claim=100_000_001)
    add("max_claim", "claims a header of 2^64-1 bytes", "{}", claim=2**64 - 1)
    add("empty_header", "the header has no bytes", "")
    add("leading_space", "white space before the '{'", " {" + U8 + "}", bytes(4))
    add("bom", "a byte order mark before the '{'", b"\xef\xbb\xbf{}")
    add("not_json", "begins like JSON and is none", "{hello}")
    add("top_array", "the header is a list", "[]")
    add("unclosed", "the header ends before its JSON does", "{" + U8, bytes(4))
    add("trailing_comma", "a comma in front of the '}'", "{" + U8 + ",}", bytes(4))
    add("two_objects", "a second object after the first", "{}{}")
    add("nul_padding", "padded with zeros instead of spaces", "{" + U8 + "}\0\0", bytes(4))
    add("control_character", "a newline in a name, not escaped",
        "{" + U8.replace('"w"', '"w\n"') + "}", bytes(4))
    add("bad_escape", "an escape that JSON does not have", r'{"\x":{}}')
    add("bad_utf8", "a name is not UTF-8", b'{"w\xff":{' + FIELDS.encode() + b"}}", bytes(4))
    add("overlong_utf8", "a name holds an overlong encoding", b'{"\xc0\xaf":{}}')
    add("lone_surrogate", "half of a surrogate pair in a name", r'{"\ud800\u0041":{}}')
    add("lone_surrogate_skipped", "half of a surrogate pair in a field that nobody knows",
        "{" + U8[:-1] + r',"x":"\udc00"}}', bytes(4))
    add("leading_zero", "a dimension of 04", "{" + U8.replace("[4]", "[04]") + "}", bytes(4))
    add("nan", "NaN in a field that nobody knows", "{" + U8[:-1] + ',"x":NaN}}', bytes(4))
    add("deep_nesting", "values nested 128 deep",
        "{" + U8[:-1] + ',"x":' + "[" * 126 + "]" * 126 + "}}", bytes(4))
    add("deep_nesting_open", "3000 lists opened and never closed",
        "{" + U8[:-1] + ',"x":' + "[" * 3000, bytes(4))


def broken_content():
    add("metadata_number", "a metadata value is a number", '{"__metadata__":{"step":100}}')
    add("metadata_nested", "a metadata value is an object", '{"__metadata__":{"a":{"b":"c"}}}')
    add("metadata_list", "the metadata is a list", '{"__metadata__":[]}')
    add("duplicate_metadata", "the metadata occurs twice", '{"__metadata__":{},"__metadata__":{}}')
    add("duplicate_metadata_key", "a metadata key occurs twice",
        '{"__metadata__":{"a":"1","a":"2"}}')
    add("duplicate_key", "a tensor's name occurs twice", "{" + U8 + "," + U8 + "}", bytes(4))
    add("duplicate_key_escaped", "a name occurs twice, once spelt with an escape",
        "{" + U8 + "," + U8.replace('"w"', r'"\u0077"') + "}", bytes(4))
    for field, value in ("dtype", '"U8"'), ("shape", "[4]"), ("data_offsets", "[0,4]"):
        add(f"duplicate_{field}", f"an entry has its {field} twice",
            "{" + U8[:-1] + f',"{field}":{value}}}}}', bytes(4))
        without = ",".join(f for f in re.findall(r'"\w+":(?:\[.*?\]|"\w+")', FIELDS) if field not in f)
        add(f"missing_{field}", f"an entry has no {field}", '{"w":{' + without + "}}", bytes(4))
    add("entry_list", "an entry is a list, not an object", '{"w":["U8",[4],[0,4]]}', bytes(4))
    add("entry_null", "an entry is null", '{"w":null}')
    add("dtype_object", "a dtype is an object", '{"w":{' + FIELDS.replace('"U8"', '{"U8":null}') + "}}", bytes(4))
    add("shape_number", "a shape is a number", "{" + U8.replace("[4]", "4") + "}", bytes(4))
    add("shape_negative", "a dimension is negative", "{" + U8.replace("[4]", "[-4]") + "}", bytes(4))
    add("shape_float", "a dimension is 4.0", "{" + U8.replace("[4]", "[4.0]") + "}", bytes(4))
    add("shape_exponent", "a dimension is 4e0", "{" + U8.replace("[4]", "[4e0]") + "}", bytes(4))
    add("shape_string", "a dimension is a string", "{" + U8.replace("[4]", '["4"]') + "}", bytes(4))
    one("shape_2_64", "a dimension is 2^64", "U8", [2**64], 0, 0)
    add("offsets_one", "data_offsets has one number", "{" + U8.replace("[0,4]", "[4]") + "}", bytes(4))
    add("offsets_three", "data_offsets has three numbers",
        "{" + U8.replace("[0,4]", "[0,4,4]") + "}", bytes(4))


def broken_layout():
    one("offsets_reversed", "a tensor ends before it begins", "U8", [4], 4, 0, 4)
    one("shape_overflow", "the product of the shape is 2^64", "U8", [2**32, 2**32], 0, 0)
    one("shape_overflow_then_zero", "the product of the shape overflows before its zero",
        "U8", [2**63, 2, 0], 0, 0)
    one("bits_overflow", "the shape fits, its size in bits does not", "F64", [2**60], 0, 0)
    one("offset_overflow", "a tensor of an unknown dtype ends at 2^64-1", "Q1", [1], 0, 2**64 - 1, 0)
    one("f4_odd", "three elements of 4 bits end inside a byte", "F4", [3], 0, 2)
    one("extent_short", "fewer bytes than the shape holds", "F32", [2], 0, 7)
    one("extent_long", "more bytes than the shape holds", "F32", [2], 0, 9)
    add("overlap", "two tensors share two bytes",
        "{" + entry("a", "U8", [4], 0, 4) + "," + entry("b", "U8", [4], 2, 6) + "}", bytes(6))
    add("same_bytes", "two tensors share all their bytes",
        "{" + entry("a", "U8", [4], 0, 4) + "," + entry("b", "U8", [4], 0, 4) + "}", bytes(4))
    add("empty_inside", "an empty tensor in the middle of another",
        "{" + entry("a", "U8", [4], 0, 4) + "," + entry("b", "U8", [0], 2, 2) + "}", bytes(4))
    add("hole", "two bytes between two tensors belong to none",
        "{" + entry("a", "U8", [4], 0, 4) + "," + entry("b", "U8", [4], 6, 10) + "}", bytes(10))
    one("hole_at_start", "the first tensor does not begin at 0", "U8", [4], 2, 6)
    one("past_end", "the last tensor ends after the file", "U8", [4], 0, 4, 3)
    one("trailing_bytes", "the file goes on after the last tensor", "U8", [4], 0, 4, 5)
    add("no_tensors_trailing", "no tensors, and one byte of data", "{}", b"x")


def go_bytes(content):
    body = "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02x}" for b in content)
    return f'go test fuzz v1\n[]byte("{body}")\n'


def write():
    for old in HERE.glob("*.safetensors"):
        old.unlink()
    lines = ["# Fixtures: odd and hostile safetensors headers", "",
             "Written by `make.py`, which also writes this list. What each must give is in",
             "`safetensors/fixtures_test.go`.", ""]
    for name, (what, content) in FIXTURES.items():
        (HERE / f"{name}.safetensors").write_bytes(content)
        lines.append(f"- `{name}.safetensors`: {what}")
    (HERE / "README.md").write_text("\n".join(lines) + "\n")

    SEEDS.mkdir(parents=True, exist_ok=True)
    for name in ("plain", "empty_tensor", "metadata", "unknown_field", "unknown_dtype", "f6_four",
                 "reverse_order", "huge_claim", "overlap", "hole", "duplicate_key_escaped",
                 "lone_surrogate", "shape_overflow", "offset_overflow", "nesting_limit"):
        (SEEDS / name).write_text(go_bytes(FIXTURES[name][1]))


odd_but_valid()
truncated()
broken_json()
broken_content()
broken_layout()
write()
