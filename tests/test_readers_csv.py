"""CSV: against Python's own strict parser, at any block size, and what breaks a shard."""

from __future__ import annotations

import csv
import gzip
import io
import random

import pyarrow as pa
import pytest

from pipeline.errors import BrokenShard
from pipeline.features import Feature
from pipeline.job import Csv
from pipeline.readers.csv import read_csv
from pipeline.rows import Columns, PassThrough, Rejected

BLOCKS = [1, 2, 3, 7, 64, 1 << 20]


def text_columns(names, optional=()) -> Columns:
    return Columns({name: Feature(name, "string", default="MISSING") for name in names}, frozenset(optional))


def read(data: bytes, columns: Columns, options: Csv | None = None, block_bytes: int = 1 << 20, rows: int = 5):
    """Rows as dicts, rejected rows, and how the shard broke."""
    good: list[dict] = []
    rejected: list[Rejected] = []
    count = 0
    try:
        chunks = read_csv(
            io.BytesIO(data), columns, options or Csv(), rows=rows, max_bytes=1 << 20, block_bytes=block_bytes
        )
        for chunk in chunks:
            assert chunk.read == chunk.rows.num_rows + len(chunk.rejected) <= rows
            count += chunk.read
            good += chunk.rows.to_pylist()
            rejected += chunk.rejected
    except BrokenShard as error:
        return good, rejected, str(error)
    assert sorted([row["_row"] for row in good] + [row.row for row in rejected]) == list(range(count))
    return good, rejected, None


def values(rows, names):
    return [tuple(row[f"feature:{name}"] for name in names) for row in rows]


TRICKY = (
    b'\xef\xbb\xbfa,b,c\r\n1,"x, ""y""\r\n\nz",\xc3\xa9\n\n\r\n"","","",\n,,\r\n"",NA,"NA"\n"a""",""""," "\nlast,1,2'
)
TRICKY_ROWS = [
    (b"1", b'x, "y"\r\n\nz', "é".encode()), (b"MISSING",) * 3, (b"", b"MISSING", b"NA"), (b'a"', b'"', b" "),
    (b"last", b"1", b"2"),
]  # fmt: skip
TRICKY_RECORDS = [
    b'1,"x, ""y""\r\n\nz",\xc3\xa9', b'"","","",', b",,", b'"",NA,"NA"', b'"a""",""""," "', b"last,1,2",
]  # fmt: skip


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("block_bytes", BLOCKS)
def test_tricky_rows_at_any_block_size(block_bytes, compress):
    options = Csv(nulls=["", "NA"])
    good, rejected, broken = read(compress(TRICKY), text_columns("abc"), options, block_bytes)
    assert broken is None
    assert values(good, "abc") == TRICKY_ROWS
    [bad] = rejected
    assert (bad.row, bad.reason) == (1, "expected 3 fields, found 4")
    assert [row["record"] for row in good] == [TRICKY_RECORDS[index] for index in (0, 2, 3, 4, 5)]
    assert bad.record == b"a,b,c\n" + TRICKY_RECORDS[1]  # so that it can be read without its shard


@pytest.mark.parametrize("seed", range(30))
def test_agrees_with_python_csv(seed):
    """Random text, much of it broken: rows are those of the csv module as long as the rules are kept."""
    rng = random.Random(seed)
    for _ in range(30):
        data = b"a,b\n" + "".join(rng.choice('xy",,,\n\n"é ') for _ in range(rng.randrange(60))).encode()
        ours, rejected, broken = read(data, text_columns("ab"), Csv(nulls=[]), rng.choice(BLOCKS))
        assert (broken is not None) == breaks_the_rules(data.decode())
        if broken is not None:
            continue
        theirs = [row for row in csv.reader(io.StringIO(data.decode(), newline=""), strict=True) if row][1:]
        assert values(ours, "ab") == [tuple(cell.encode() for cell in row) for row in theirs if len(row) == 2]
        assert [row.reason for row in rejected] == [
            f"expected 2 fields, found {len(row)}" for row in theirs if len(row) != 2
        ]


def breaks_the_rules(data: str) -> bool:
    """RFC 4180 spelled out character by character."""
    state = "start"
    for character in data:
        if state == "quoted":
            state = "closed" if character == '"' else "quoted"
        elif character in ",\n":
            state = "start"
        elif character == '"' and state in ("start", "closed"):
            state = "quoted"
        elif character == '"' or state == "closed":
            return True
        else:
            state = "plain"
    return state == "quoted"


def test_agrees_with_what_python_writes():
    rng = random.Random(0)
    alphabet = ["a", '"', ",", "\n", "\r\n", "\r", "é", " ", "", "\0", "1"]
    rows = [["".join(rng.choices(alphabet, k=rng.randrange(6))) for _ in range(3)] for _ in range(500)]
    for terminator in ("\n", "\r\n"):
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator=terminator, quoting=csv.QUOTE_ALL).writerows([["a", "b", "c"], *rows])
        for block_bytes in (64, 1000, 1 << 20):
            good, rejected, broken = read(text.getvalue().encode(), text_columns("abc"), None, block_bytes, rows=64)
            assert (rejected, broken) == ([], None)
            assert values(good, "abc") == [tuple(cell.encode() for cell in row) for row in rows]


@pytest.mark.parametrize("block_bytes", BLOCKS)
@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (b'x"y,2\n', "row 2: a quote inside a field that is not quoted"),
        (b'"x"y,2\n', "row 2: text after a closing quote"),
        (b'"x" ,2\n', "row 2: text after a closing quote"),
        (b'"x,2\n3,4\n', "row 2: the file ends inside a quoted field"),
        (b'"', "row 2: the file ends inside a quoted field"),
        (b"x\ry,2\n", "row 2: a carriage return without a line feed"),
        (b"x,2\r", "row 2: a carriage return without a line feed"),
        (b'"x"\r', "row 2: a carriage return without a line feed"),
        (b'3,4\nx"y,2\n"', "row 3: a quote inside a field that is not quoted"),
    ],
    ids=repr,
)
def test_broken_quoting_ends_the_shard(rows, reason, block_bytes):
    good, rejected, broken = read(b"a,b\n1,2\n\n1,2\n" + rows, text_columns("ab"), None, block_bytes)
    assert broken == reason
    assert rejected == []
    assert [row["_row"] for row in good] == list(range(int(reason[4])))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file has no header"),
        (b"\n\n", "the file has no header"),
        (b'a,"b', "the header: the file ends inside a quoted field"),
        (b"a,b,a\n1,2,3\n", "the header names the column 'a' 2 times"),
        (b"a,\xff\n", "the header is not UTF-8"),
        (
            b"a,c\n1,2\n",
            "the CSV file lacks the column 'b' (feature 'b'); name it in input.optional or rename it in input.rename",
        ),
    ],
    ids=["empty", "blank", "cut", "twice", "latin-1", "lost"],
)
def test_broken_headers(data, reason):
    assert read(data, text_columns("ab")) == ([], [], reason)


def test_a_lost_column_that_is_optional():
    good, _, broken = read(b"a\n1\n", text_columns("ab", optional="b"))
    assert (broken, values(good, "ab")) == (None, [(b"1", b"MISSING")])


def test_a_lost_pass_through_column():
    columns = Columns({}, passthrough={"id": PassThrough("trip")}, sources={"trip": "trip_id"})
    assert read(b"a\n1\n", columns)[2] == (
        "the CSV file lacks the column 'trip_id' (pass-through column 'id'); "
        "leave it out of output.passthrough or rename it in input.rename"
    )


def test_without_header_and_with_tabs():
    options = Csv(header=False, columns=["a", "b"], delimiter="\t")
    good, _, broken = read(b'1,5\t"x\ty"\n2\t3\n', text_columns("ba"), options)
    assert (broken, values(good, "ab")) == (None, [(b"1,5", b"x\ty"), (b"2", b"3")])


def test_typed_columns():
    columns = Columns(
        {"n": Feature("n", "int64"), "x": Feature("x", "float32"), "l": Feature("l", "int64", "varlen"),
         "image": Feature("image", "float32", "fixed", (2, 2))},
        passthrough={"word": PassThrough("word"), "n": PassThrough("n")},
    )  # fmt: skip
    data = (
        b"word,n,x,l,image\n"
        b'007,180.0,nan,"[1, 9007199254740993]","[[1,2],[3,4]]"\n'
        b'None,-9223372036854775808,-0.0,,"[1,2,3,4]"\n'
        b",1.5,1,[],\n"
    )
    good, rejected, broken = read(data, columns)
    assert broken is None
    assert [row["passthrough:word"] for row in good] == ["007", "None"]
    assert [row["feature:n"] for row in good] == [row["passthrough:n"] for row in good] == [180, -(2**63)]
    assert [str(row["feature:x"]) for row in good] == ["nan", "-0.0"]
    assert [row["feature:l"] for row in good] == [[1, 2**53 + 1], []]
    assert [row["feature:image"] for row in good] == [[1, 2, 3, 4]] * 2
    assert [(row.row, row.reason) for row in rejected] == [
        (2, "feature 'n': expected int64, found a number with a fraction")
    ]


def test_quoted_empty_is_no_number_and_unquoted_is_missing():
    columns = Columns({"n": Feature("n", "int64")})
    _, rejected, _ = read(b'n,m\n"",\n,\n', columns)
    assert [row.reason for row in rejected] == [
        "feature 'n': expected int64, found text that is not a number",
        "feature 'n': missing, and it has no default",
    ]


def test_a_cut_gzip_gives_the_whole_rows_before():
    data = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (index, index**5) for index in range(20_000)))
    good, _, broken = read(data[: len(data) // 2], text_columns("ab"), None, 4096, rows=1000)
    assert broken == "the gzip stream is cut off"
    assert len(good) > 5_000
    assert values(good, "ab") == [(b"%d" % index, b"%d" % index**5) for index in range(len(good))]


def test_records_are_left_out_when_not_kept():
    [chunk] = read_csv(
        io.BytesIO(b"a\n1\n1,2\n"), text_columns("a"), Csv(), rows=9, max_bytes=99, keep_record=False
    )  # fmt: skip
    assert chunk.rows.schema.names == ["_row", "feature:a"]
    assert chunk.rejected[0].record is None
    assert chunk.rows.schema.field("feature:a").type == pa.binary()


def test_a_row_longer_than_many_blocks_is_not_read_again_and_again():
    cell = b"x" * 3_000_000
    good, _, broken = read(b'a\n"' + cell + b'"\n1\n', text_columns("a"), None, block_bytes=1000)
    assert (broken, values(good, "a")) == (None, [(cell,), (b"1",)])
