"""Mistakes in a job file: each is told in one line, with its place, what was found and the remedy."""

from __future__ import annotations

import pytest
from test_job_file import BASE, message, replaced

from pipeline.errors import JobError
from pipeline.job.file import load_job


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder of each test: a job's folder with a model_dir in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    return tmp_path


# Each: what is added at the end of BASE (a section that is there is replaced), and the message from its key on.
KEYS = [
    pytest.param("outptu: {}", "12: outptu: unknown key; did you mean 'output'?", id="mistyped section"),
    pytest.param("colour: red", "12: colour: unknown key; known are name, code, input", id="unknown section"),
    pytest.param("batch: {row: 1}", "12: batch.row: unknown key; did you mean 'rows'?", id="mistyped key"),
    pytest.param("batch: {rows: '4096'}", "12: batch.rows: expected a whole number, got text ('4096'); write 4096 without quotes", id="number in quotes"),
    pytest.param("batch: {rows: 1e6}", "12: batch.rows: expected a whole number, got text ('1e6'); write 1000000", id="exponent that YAML reads as text"),
    pytest.param("batch: {rows: '4,096'}", "12: batch.rows: expected a whole number, got text ('4,096'); write 4096", id="thousands separator"),
    pytest.param("batch: {bytes: 64 MiB}", "12: batch.bytes: expected a whole number, got text ('64 MiB'); write 67108864", id="unit"),
    pytest.param("batch: {rows: 0.5}", "12: batch.rows: expected a whole number, got a number (0.5)", id="fraction of a row"),
    pytest.param("batch: {rows: true}", "12: batch.rows: expected a whole number, got true", id="bool for a number"),
    pytest.param("batch: {rows: 0}", "12: batch.rows: has to be 1 or more, got 0", id="no rows"),
    pytest.param("batch: {bytes: -5}", "12: batch.bytes: has to be 1 or more, got -5", id="negative bytes"),
    pytest.param("batch: [4096]", "12: batch: expected a mapping (key: value), got a list", id="list for a section"),
    pytest.param("batch:", "12: batch: is empty; write its keys indented under it, or leave it out", id="empty section"),
    pytest.param("errors: {max_bad_rows: true}", "12: errors.max_bad_rows: expected a count or a fraction, got true", id="bool budget"),
    pytest.param("errors: {max_bad_rows: 1%}", "12: errors.max_bad_rows: expected a count or a fraction, got text ('1%'); write 0.01", id="percent"),
    pytest.param("errors: {max_bad_rows: 1.0}", "12: errors.max_bad_rows: a fraction is from 0 to below 1, got 1.0; write 1 for a count", id="fraction of one"),
    pytest.param("errors: {max_bad_rows: -0.1}", "12: errors.max_bad_rows: a fraction is from 0 to below 1, got -0.1", id="negative fraction"),
    pytest.param("errors: {max_broken_shards: -1}", "12: errors.max_broken_shards: a count is 0 or more, got -1", id="negative count"),
    pytest.param("errors: {non_finite: drop}", "12: errors.non_finite: expected keep, reject or fail, got text ('drop')", id="unknown choice"),
    pytest.param("errors: {non_finite: Fail}", "did you mean 'fail'?", id="choice in capitals"),
    pytest.param("errors: {keep_record: 1}", "12: errors.keep_record: expected true or false, got a whole number (1)", id="number for a bool"),
    pytest.param("errors: {keep_record: 'true'}", "12: errors.keep_record: expected true or false, got text ('true'); write it without quotes", id="bool in quotes"),
    pytest.param("code: [trainer.py, missing/]", "12: code[1]: no such file or folder: {folder}/missing", id="missing code"),
    pytest.param("code: gs://bucket/lib.whl", "12: code[0]: gs://bucket/lib.whl is no local path; copy it beside the job file", id="remote code"),
    pytest.param("transform: {}", "12: transform: needs path (a folder) or function (module:function)", id="empty transform"),
    pytest.param("transform: {path: gs://b/t}", "4: features: the transform of transform.path has the raw feature spec itself; leave features out", id="features and transform.path"),
    pytest.param("transform: {path: gs://b/t, function: 'a:b'}", "12: transform: has both path and function", id="two transforms"),
    pytest.param("transform: {function: a.b}", "12: transform.function: expected a reference module:function, got text ('a.b'); write a:b", id="dot for a colon"),
    pytest.param("transform: {function: 'my/code.py:f'}", "got text ('my/code.py:f'); write my.code:f", id="file for a module"),
    pytest.param("transform: {function: [a]}", "12: transform.function: expected a reference module:function, got a list", id="list for a reference"),
]  # fmt: skip

SECTION_KEYS = [
    pytest.param("input", "patern: a", "3: input.patern: unknown key; did you mean 'pattern'?", id="mistyped pattern"),
    pytest.param("input", "format: csv", "2: input.pattern: is missing", id="no pattern"),
    pytest.param("input", "pattern: []", "3: input.pattern: is an empty list", id="no patterns"),
    pytest.param("input", "pattern: 7", "3: input.pattern: expected a list, got a whole number (7); write [7]", id="number for a pattern"),
    pytest.param("input", "pattern: [a.csv, 2026-01-01]", "3: input.pattern[1]: expected text, got a date (2026-01-01); put it in quotes", id="date for text"),
    pytest.param("input", "pattern: [a.csv, on]", "3: input.pattern[1]: expected text, got true; if the word itself is meant", id="on is true"),
    pytest.param("input", "pattern: 'in/{a,b}.csv'", "3: input.pattern: braces in '{folder}/in/{a,b}.csv' are not expanded; write a list of patterns", id="braces"),
    pytest.param("input", "pattern: in/part-*", "2: input.format: the name '{folder}/in/part-*' does not tell the format; write input.format: tfrecord, parquet", id="no extension"),
    pytest.param("input", "pattern: [a.csv, b.parquet]", "2: input.format: the patterns are of different formats (csv, parquet); one job reads one", id="two formats"),
    pytest.param("input", "pattern: a.csv\n  format: cvs", "4: input.format: expected tfrecord, parquet, csv, jsonl or avro, got text ('cvs'); did you mean 'csv'?", id="mistyped format"),
    pytest.param("input", "pattern: a.tfrecord\n  csv: {header: true}", "4: input.csv: is for CSV, the format of the input is tfrecord; leave it out", id="csv for another format"),
    pytest.param("input", "pattern: a.csv\n  csv: {header: false}", "4: input.csv.columns: header: false needs columns", id="no header and no columns"),
    pytest.param("input", "pattern: a.csv\n  csv: {columns: [a]}", "4: input.csv.columns: are read from the header; leave columns out, or write header: false", id="header and columns"),
    pytest.param("input", "pattern: a.csv\n  csv: {header: false, columns: [miles, words, miles]}", "4: input.csv.columns: 'miles' is there twice; name it once", id="column twice"),
    pytest.param("input", "pattern: a.csv\n  csv: {header: false, columns: [miles, word]}", "4: input.csv.columns: 'words' is not among them, and the job reads it; did you mean 'word'?", id="feature without a column"),
    pytest.param("input", "pattern: a.csv\n  csv: {delimiter: tab}", "4: input.csv.delimiter: expected one ASCII character (for a tab \"\\t\", in double quotes), got text ('tab')", id="delimiter"),
    pytest.param("input", "pattern: a.tfrecord\n  optional: [word]", "4: input.optional: 'word' is no raw feature; did you mean 'words'?", id="unknown optional"),
    pytest.param("input", "pattern: a.tfrecord\n  optional: words", "4: input.optional: expected a list, got text ('words'); write [words]", id="text for a list"),
    pytest.param("input", "pattern: a.tfrecord\n  rename: {mile: trip_miles}", "4: input.rename.mile: is no raw feature and no pass-through name; did you mean 'miles'?", id="unknown rename"),
    pytest.param("features", "x: {dtype: float}", "5: features.x.dtype: no dtype of features is text ('float'); did you mean 'float32'?", id="Python dtype"),
    pytest.param("features", "x: {dtype: flaot32}", "5: features.x.dtype: no dtype of features is text ('flaot32'); did you mean 'float32'?", id="mistyped dtype"),
    pytest.param("features", "x: {shape: [2]}", "5: features.x.dtype: is missing", id="no dtype"),
    pytest.param("features", "x: {dtype: int64, shpe: [2]}", "5: features.x.shpe: unknown key; did you mean 'shape'?", id="mistyped feature key"),
    pytest.param("features", "x: {dtype: int64, shape: 28}", "5: features.x.shape: expected a list, got a whole number (28); write [28]", id="shape without brackets"),
    pytest.param("features", "x: {dtype: int64, shape: [-1]}", "5: features.x.shape[0]: has to be 1 or more, got -1", id="unknown dimension"),
    pytest.param("features", "x: {dtype: int64, kind: dense}", "5: features.x.kind: expected fixed, varlen, ragged, sequence or sparse, got text ('dense')", id="unknown kind"),
    pytest.param("features", "x: {dtype: int64, kind: varlen, default: 0}", "5: features.x: kind varlen has no default", id="default of varlen"),
    pytest.param("features", "x: {dtype: int64, kind: ragged, shape: [2]}", "5: features.x: kind ragged has no shape", id="shape of ragged"),
    pytest.param("features", "x: {dtype: int64, default: 1.5}", "5: features.x: the default of a int64 feature cannot be a number (1.5)", id="default of another type"),
    pytest.param("features", "x: {dtype: float32, shape: [3], default: [1, 2]}", "5: features.x: the default has 2 values, the shape [3] holds 3", id="default of another size"),
    pytest.param("features", "x: {dtype: int32}", "5: features.x.dtype: TFRecord holds float32, int64, string, not int32; cast it in the transform", id="dtype that TFRecord lacks"),
    pytest.param("features", "x: float32", "5: features.x: expected a mapping (key: value), got text ('float32')", id="dtype for a feature"),
    pytest.param("features", "2: {dtype: int64}", "5:3: a key has to be text, got a whole number (2); put it in quotes", id="number for a key"),
    pytest.param("model", "model_dir: model", "7: model: needs estimator (a function that builds one), model_fn or saved_model", id="no model"),
    pytest.param("model", "model_fn: a:b", "model.model_dir: is missing; a model_fn does not know where its checkpoints are", id="no model_dir"),
    pytest.param("model", "model_fn: a:b\n  model_dir: modle", "model.model_dir: no such folder: {folder}/modle; did you mean 'model'?", id="missing model_dir"),
    pytest.param("model", "model_fn: a:b\n  model_dir: job.yaml", "model.model_dir: is a file, a folder is wanted: {folder}/job.yaml", id="file for a folder"),
    pytest.param("model", "model_fn: a:b\n  estimator: a:c\n  model_dir: model", "model: has both estimator and model_fn; leave one out", id="two models"),
    pytest.param("model", "estimator: a:b\n  params: [1]", "model.params: expected a mapping (key: value), got a list", id="list for params"),
    pytest.param("model", "estimator: a:b\n  params: {since: 2026-01-01}", "model.params.since: params cannot hold a date (2026-01-01); put it in quotes", id="date in params"),
    pytest.param("model", "estimator: a:b\n  features: [mile]", "model.features: 'mile' is no raw feature; did you mean 'miles'?", id="unknown model feature"),
    pytest.param("model", "estimator: a:b\n  features: [miles, miles]", "model.features: 'miles' is there twice; name it once", id="model feature twice"),
    pytest.param("model", "estimator: a:b\n  checkpoint: best", "model.checkpoint: best needs a metric; write checkpoint: {best: {metric: auc, mode: max}}", id="best of what"),
    pytest.param("model", "estimator: a:b\n  checkpoint: '100'", "model.checkpoint: got text ('100'); for that step write 100 without quotes", id="step in quotes"),
    pytest.param("model", "estimator: a:b\n  checkpoint: -1", "model.checkpoint: expected latest, a step, a path or best: {metric: auc, mode: max}, got a whole number (-1)", id="negative step"),
    pytest.param("model", "estimator: a:b\n  checkpoint: {metric: auc}", "model.checkpoint.metric: unknown key", id="best left out"),
    pytest.param("model", "estimator: a:b\n  checkpoint: {best: {metric: auc, mode: highest}}", "model.checkpoint.best.mode: expected max or min, got text ('highest')", id="unknown mode"),
    pytest.param("output", "paht: out", "output.paht: unknown key; did you mean 'path'?", id="mistyped path"),
    pytest.param("output", "path: ''", "output.path: is empty", id="empty path"),
    pytest.param("output", "path: {name}", "output.path: expected text, got a mapping; put text that starts with a brace in quotes: \"{name}\"", id="placeholder without quotes"),
    pytest.param("output", "path: out\n  passthrough: [trip_id]", "output.passthrough.trip_id: 'trip_id' is no raw feature, so its dtype is not known; write {trip_id: {from: trip_id, dtype: int64}}", id="pass-through without dtype"),
    pytest.param("output", "path: out\n  passthrough: {id: {from: id, dtype: int32}}", "output.passthrough.id.dtype: TFRecord holds float32, int64, string, not int32", id="pass-through dtype that TFRecord lacks"),
    pytest.param("output", "path: out\n  passthrough: {id: {form: id}}", "output.passthrough.id.form: unknown key; did you mean 'from'?", id="mistyped from"),
    pytest.param("output", "path: out\n  passthrough: [miles, miles]", "output.passthrough: 'miles' is there twice; name it once", id="pass-through twice"),
    pytest.param("output", "path: out\n  passthrough: [[miles]]", "output.passthrough: expected a list of names, got a list in it", id="list in a list"),
    pytest.param("output", "path: out\n  passthrough: {_row: miles}", "output.passthrough: '_row' is a column of row ids", id="pass-through named _row"),
    pytest.param("output", "path: out\n  predictions: {_shard: logits}", "output.predictions: '_shard' is a column of row ids", id="prediction named _shard"),
    pytest.param("output", "path: out\n  passthrough: [miles]\n  predictions: [miles]", "output.predictions: 'miles' is a pass-through column too", id="two columns of one name"),
    pytest.param("output", "path: out\n  predictions: ['p[1]']", "output.predictions: 'p[1]' needs a column name: write a mapping {column: \"p[1]\"}", id="index without a column"),
    pytest.param("output", "path: out\n  predictions: {p: 'p[-1]'}", "output.predictions.p: the index of 'p[-1]' counts from 0; a negative one is not taken", id="negative index"),
    pytest.param("output", "path: out\n  predictions: {p: 'p[a]'}", "output.predictions.p: expected key or key[index], got text ('p[a]')", id="index that is none"),
    pytest.param("output", "path: out\n  predictions: []", "output.predictions: is empty; name at least one", id="no prediction"),
    pytest.param("output", "path: out\n  types: {p: str}", "output.types.p: expected binary, string, bool", id="unknown Arrow type"),
    pytest.param("output", "path: out\n  predictions: [classes]\n  types: {class: binary}", "output.types.class: no prediction has this column; did you mean 'classes'?", id="type of no column"),
    pytest.param("output", "path: out\n  passthrough: [miles]\n  types: {miles: float64}", "output.types.miles: is a pass-through column; write its dtype in output.passthrough", id="type of a pass-through column"),
    pytest.param("output", "path: out\n  if_exists: replace", "output.if_exists: expected fail, skip or overwrite, got text ('replace')", id="unknown if_exists"),
]  # fmt: skip

WHOLE_FILES = [
    pytest.param("", "job.yaml: is empty; a job file is a mapping", id="empty file"),
    pytest.param("# nothing yet\n", "job.yaml: is empty; a job file is a mapping", id="only comments"),
    pytest.param("- name: taxi\n", "job.yaml: holds a list; a job file is a mapping", id="list"),
    pytest.param("taxi\n", "job.yaml: holds text ('taxi'); a job file is a mapping", id="text"),
    pytest.param("name: taxi\n", "job.yaml: input: is missing\njob.yaml: model: is missing\njob.yaml: output: is missing", id="sections missing"),
    pytest.param(replaced("name: taxi", "name: taxi fares"), "job.yaml:1: name: expected letters, digits, '_', '-' and '.'", id="name with a blank"),
    pytest.param(replaced("model:", "modle:"), "job.yaml:7: modle: unknown key; did you mean 'model'?", id="mistyped required section"),
    pytest.param(replaced("features:", "x_features:"), "job.yaml:4: x_features: unknown key; did you mean 'features'?", id="features under another name"),
    pytest.param(replaced("features:\n  miles: {dtype: float32}\n  words: {dtype: string, kind: varlen}\n", ""), "job.yaml: features: is missing; write the raw feature spec here, or transform.path", id="no features and no transform"),
    pytest.param(replaced("  path: out", "  path: out\n  path: in"), "job.yaml:12:3: output.path: is there twice, first on line 11; keep one", id="key twice"),
    pytest.param(replaced("  path: out", "\tpath: out"), "job.yaml:11:1: a tab; YAML is indented with spaces", id="tab"),
    pytest.param(replaced("  path: out", "   path: out\n  row_ids: true"), "job.yaml:12:3: not indented like the lines above", id="indentation"),
    pytest.param(replaced("in/*", "*"), "job.yaml:3:13: text that starts with * has to be in quotes", id="star without quotes"),
    pytest.param(replaced("in/*", "{run_date}/*"), "job.yaml:3:22: not indented like the lines above, or text goes on behind a closing quote or bracket", id="brace without quotes"),
    pytest.param(replaced("path: out", "path: @out"), "job.yaml:11:9: text cannot start with @; put it in quotes", id="at sign"),
    pytest.param(replaced("path: out", "path: a: b"), "job.yaml:11:10: a ':' where none can be", id="colon in text"),
    pytest.param(replaced("path: out", "path: 'out"), "job.yaml:11:9: a quote is opened here and never closed", id="open quote"),
    pytest.param(replaced("in/*.tfrecord", "[a, b"), "job.yaml:3:12: a bracket is opened here and not closed", id="open bracket"),
    pytest.param(replaced("path: out", "path: 2026-13-01"), "job.yaml:11:9: '2026-13-01' looks like a date or number and is none; put it in quotes", id="date that is none"),
    pytest.param(replaced("path: out", "path: !Ref out"), "job.yaml:11:9: tags (!...) are not read", id="tag"),
    pytest.param("a: &a [*a]\n", "job.yaml:1:4: an alias (*) stands inside of what it stands for", id="endless alias"),
    pytest.param(BASE + "---\nname: b\n", "job.yaml:12:1: a second document starts here; a job file is one", id="two documents"),
    pytest.param("name: \x01\n", "job.yaml:1: a control character; is this a YAML file?", id="control character"),
    pytest.param(replaced("path: out", "path: out/{run_date}"), "job.yaml:11: output.path: {run_date} has no value; give it with --run_date YYYY-MM-DD", id="no run date"),
    pytest.param(replaced("path: out", "path: out/{rundate}"), "job.yaml:11: output.path: {rundate} is no placeholder; did you mean {run_date}?", id="mistyped placeholder"),
    pytest.param(replaced("path: out", "path: out/{shard}"), "job.yaml:11: output.path: {shard} is no placeholder; for the braces themselves write {{shard}}", id="unknown placeholder"),
    pytest.param(replaced("name: taxi", "name: a-{name}"), "job.yaml:1: name: {name} is this key's own value", id="name of itself"),
    pytest.param(replaced("path: out", "path: in\n", replaced("*.tfrecord", "*", replaced("pattern:", "format: parquet\n  pattern:"))), "output.path: '{folder}/in' lies where the input pattern '{folder}/in/*' looks for shards; write elsewhere", id="output in the input"),
    pytest.param(replaced("path: out", "path: in/scores", replaced("*.tfrecord", "**/*.parquet")), "output.path: '{folder}/in/scores' lies where the input pattern", id="output under the input"),
    pytest.param(replaced("in/*.tfrecord", "*.parquet'", replaced("pattern: ", "pattern: '")) + "errors: {rejected_path: sub/../}\n", "errors.rejected_path: '{folder}' lies where the input pattern", id="rejected rows in the input"),
]  # fmt: skip

OVERRIDES = [
    pytest.param("batch.rows", "--set batch.rows: expected section.key=value, such as --set batch.rows=512", id="no value"),
    pytest.param("=1", "--set =1: expected section.key=value", id="no key"),
    pytest.param("input.patern=a", "--set input.patern: unknown key; did you mean 'pattern'?", id="mistyped key"),
    pytest.param("inptu.pattern=a", "--set inptu.pattern: inptu: unknown key; did you mean 'input'?", id="mistyped section"),
    pytest.param("batch.rows='7'", "--set batch.rows: expected a whole number, got text ('7'); write 7 without quotes", id="wrong type"),
    pytest.param("input.pattern=*.csv", "--set input.pattern: text that starts with * has to be in quotes (the shell takes one pair away: 'input.pattern=\"...\"')", id="star"),
    pytest.param("input.pattern.x=1", "--set input.pattern.x: input.pattern is text", id="under a value"),
    pytest.param("output.path=o/{run_date}", "--set output.path: {run_date} has no value", id="placeholder"),
    pytest.param("features.miles.dtype=floaty", "--set features.miles.dtype: no dtype of features is text ('floaty')", id="nested"),
]  # fmt: skip


def in_section(section: str, lines: str) -> str:
    """BASE with the content of one section replaced."""
    blocks = {block.split(":")[0]: block for block in BASE.replace("\n  ", "\0  ").splitlines()}
    blocks[section] = f"{section}:\0  {lines}"
    return "\n".join(blocks.values()).replace("\0", "\n") + "\n"


@pytest.mark.parametrize(("line", "expected"), KEYS)
def test_mistake_in_an_added_section(folder, line, expected):
    (folder / "trainer.py").touch()
    assert expected.replace("{folder}", str(folder)) in message(BASE + line + "\n")


@pytest.mark.parametrize(("section", "lines", "expected"), SECTION_KEYS)
def test_mistake_in_a_section(folder, section, lines, expected):
    assert expected.replace("{folder}", str(folder)) in message(in_section(section, lines))


@pytest.mark.parametrize(("text", "expected"), WHOLE_FILES)
def test_mistake_in_the_file(folder, text, expected):
    assert expected.replace("{folder}", str(folder)) in message(text)


@pytest.mark.parametrize(("override", "expected"), OVERRIDES)
def test_mistake_in_set(override, expected):
    assert message(BASE, override).startswith(expected)


def test_every_message_is_one_line_that_opens_with_the_file():
    text = BASE + "batch: {rows: 0, bits: 1}\nerrors: {non_finite: no}\n"
    lines = message(text).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["job.yaml:12", "batch.rows"],
        ["job.yaml:12", "batch.bits"],
        ["job.yaml:13", "errors.non_finite"],
    ]


def test_a_mistyped_required_key_is_told_once():
    assert message(replaced("model:", "modle:")).count("\n") == 0


@pytest.mark.parametrize("run_date", ["2026-02-30", "20260101", "2026-1-1", "today", ""])
def test_run_date_that_is_none(run_date):
    assert message(BASE, run_date=run_date) == f"--run_date: {run_date!r} is no date of the form YYYY-MM-DD"


def test_files_that_are_no_job_file(folder):
    (folder / "job.yaml").write_text(BASE)
    (folder / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for path, expected in {
        "jbo.yaml": "jbo.yaml: no such file; did you mean 'job.yaml'?",
        "nowhere/job.yaml": f"nowhere/job.yaml: no such file; there is no folder {folder}/nowhere either",
        "model": "model: is a folder; name the job file in it",
        "binary.yaml": "binary.yaml: is no text in UTF-8; a job file is YAML",
    }.items():
        with pytest.raises(JobError) as refused:
            load_job(path)
        assert str(refused.value) == expected
