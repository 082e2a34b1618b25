"""User code: how it gets on the path, how it is found and called, and what its errors say."""

from __future__ import annotations

import functools
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from pipeline.code import add_user_code, call_with_known_arguments, explain_user_error, resolve, source_files
from pipeline.errors import JobError

ROOT = Path(__file__).parents[1]


USER_MODULES = ("my_trainer", "my_model", "my_lib", "one_file", "beside", "failing", "old_model")


@pytest.fixture(autouse=True)
def own_path(monkeypatch):
    """`sys.path` and the modules of users are as they were, afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in USER_MODULES]:
        del sys.modules[name]


def write(path: Path, text: str = "def build():\n    return 'built'\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def wheel(path: Path, **members: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__slash__", "/").replace("__dot__", "."), text)
    return path


def refusal(code: list[Path]) -> str:
    with pytest.raises(JobError) as refused:
        add_user_code([str(path) for path in code])
    return str(refused.value)


def failure(reference: str, needs_tensorflow: bool = False) -> str:
    with pytest.raises(JobError) as refused:
        resolve(reference, "model.estimator", needs_tensorflow)
    return str(refused.value)


def test_a_package_folder_is_imported_by_its_name(tmp_path):
    write(tmp_path / "my_trainer" / "__init__.py", "")
    write(tmp_path / "my_trainer" / "nets" / "wide.py")
    add_user_code([str(tmp_path / "my_trainer")])
    assert resolve("my_trainer.nets.wide:build", "model.estimator")() == "built"


def test_another_folder_is_on_the_path_itself(tmp_path):
    write(tmp_path / "src" / "my_model.py")
    add_user_code([f"{tmp_path}/src/"])
    assert resolve("my_model:build", "model.estimator")() == "built"


def test_a_file_is_a_module(tmp_path):
    add_user_code([str(write(tmp_path / "one_file.py"))])
    assert resolve("one_file:build", "model.estimator")() == "built"


def test_a_wheel_is_imported_from(tmp_path):
    path = wheel(tmp_path / "lib-1.0-py3-none-any.whl", my_lib__slash____init____dot__py="def build(): return 'lib'")
    add_user_code([str(path)])
    assert resolve("my_lib:build", "model.estimator")() == "lib"


def test_adding_code_again_changes_nothing(tmp_path):
    code = [str(write(tmp_path / "one_file.py"))]
    add_user_code(code)
    before = [*sys.path]
    resolve("one_file:build", "model.estimator")
    add_user_code(code)
    assert sys.path == before


def test_what_lies_beside_a_package_hides_no_installed_package(tmp_path):
    write(tmp_path / "my_trainer" / "__init__.py", "import yaml\ndef build(): return yaml.__file__\n")
    write(tmp_path / "yaml.py", "")
    add_user_code([str(tmp_path / "my_trainer")])
    assert not resolve("my_trainer:build", "model.estimator")().startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "entry", "other"),
    [
        pytest.param("pipeline/__init__.py", "pipeline", str(ROOT / "pipeline" / "__init__.py"), id="pipeline"),
        pytest.param("transforms.py", "transforms.py", str(ROOT / "transforms" / "__init__.py"), id="transforms"),
        pytest.param("src/yaml.py", "src", "yaml/__init__.py", id="installed"),
        pytest.param("src/numpy/core.py", "src", "numpy/__init__.py", id="installed, without __init__"),
    ],
)
def test_a_name_that_is_taken_is_refused_with_both_paths(tmp_path, file, entry, other):
    path = write(tmp_path / file)
    text = refusal([tmp_path / entry])
    assert text.startswith("code[0]: ")
    assert str(path if path.suffix == ".py" and path.parent.name != "numpy" else path.parent) in text
    assert other in text
    assert "rename yours" in text


def test_two_modules_of_one_name_are_refused(tmp_path):
    first, second = write(tmp_path / "a" / "my_model.py"), write(tmp_path / "b" / "my_model.py")
    assert f"code[1]: {second} and {first} are both the module 'my_model'" in refusal([first, second])


def test_the_name_of_a_standard_module_is_refused(tmp_path):
    path = write(tmp_path / "queue.py")
    assert refusal([path]) == f"code[0]: {path} has the name of the standard library's module 'queue'; rename yours"


def test_setup_and_conftest_are_no_modules_of_a_folder(tmp_path):
    write(tmp_path / "src" / "setup.py")
    write(tmp_path / "src" / "conftest.py")
    add_user_code([str(tmp_path / "src")])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("missing", "code[0]: no such file or folder: {path}"),
        ("notes.txt", "code[0]: {path} is no folder, .py file or wheel (.whl)"),
        ("my-model.py", "code[0]: {path} cannot be imported: 'my-model' is no Python name; rename it"),
        ("torn.whl", "code[0]: {path} is no wheel: File is not a zip file"),
        ("fast.whl", "code[0]: {path} has compiled parts, which cannot be imported from a wheel; pip install it"),
    ],
)
def test_an_entry_that_cannot_be_imported(tmp_path, name, expected):
    path = tmp_path / name
    if name == "fast.whl":
        wheel(path, fast__slash____init____dot__py="", fast__slash__core__dot__so="")
    elif name != "missing":
        path.write_text("text")
    assert refusal([path]) == expected.format(path=path)


def test_no_such_module(tmp_path):
    add_user_code([str(write(tmp_path / "one_file.py"))])
    text = failure("my_tariner.model:build")
    assert text.startswith("model.estimator: cannot import 'my_tariner.model': no module of that name on ")
    assert str(tmp_path) in text
    assert text.endswith("; put its folder under code:")


def test_no_such_module_of_a_package(tmp_path):
    write(tmp_path / "my_trainer" / "__init__.py", "")
    write(tmp_path / "my_trainer" / "model.py")
    add_user_code([str(tmp_path / "my_trainer")])
    assert failure("my_trainer.modle:build") == (
        "model.estimator: cannot import 'my_trainer.modle': my_trainer has no module 'modle'; did you mean 'model'?"
    )
    assert failure("model:build").endswith("it is a module of a package; write my_trainer.model:...")


def test_a_folder_without_init_is_no_package(tmp_path):
    write(tmp_path / "my_trainer" / "nets" / "wide.py")
    write(tmp_path / "my_trainer" / "model.py")
    add_user_code([str(tmp_path / "my_trainer")])
    assert failure("my_trainer.model:build") == (
        f"model.estimator: cannot import 'my_trainer.model': the folder {tmp_path}/my_trainer has no __init__.py, "
        "so its modules go by their own names; write model:..."
    )


def test_no_such_function(tmp_path):
    path = write(tmp_path / "one_file.py", "def build_estimator(): ...\nclass Nets:\n    wide = 1\n")
    add_user_code([str(path)])
    assert failure("one_file:bulid_estimator") == (
        f"model.estimator: {path} has no 'bulid_estimator'; did you mean 'build_estimator'?"
    )
    assert failure("one_file:Nets.deep") == "model.estimator: Nets has no 'deep'"
    assert failure("one_file:Nets.wide") == (
        "model.estimator: one_file:Nets.wide is no function but a int; name a function or a class"
    )


USER_ERRORS = [
    pytest.param("import math\nmath.sqrt(-1)\n", "{path}:2: ValueError: ", "", id="any error"),
    pytest.param("x = (1\n", "{path}:1: SyntaxError: '(' was never closed", "", id="syntax"),
    pytest.param("import no_such_package\n", "{path}:1: ModuleNotFoundError: No module named 'no_such_package'", "; pip install what has 'no_such_package' where the job runs, or put its folder under code:", id="missing package"),
    pytest.param("import sys\nsys.exit(3)\n", "{path}:2: SystemExit: 3", "put what runs under `if __name__ == '__main__':`", id="exit"),
    pytest.param("from absl import flags\nflags.DEFINE_string('rate', '1', '')\nRATE = flags.FLAGS.rate\n", "{path}:3: UnparsedFlagAccessError: ", "write model.argv in the job file, such as [--units=8], or [] to have the defaults", id="absl flags"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "place", "remedy"), USER_ERRORS)
def test_an_error_of_the_user_names_file_and_line(tmp_path, source, place, remedy):
    path = write(tmp_path / "failing.py", source)
    add_user_code([str(path)])
    text = failure("failing:build")
    assert text.startswith(f"model.estimator: {place.format(path=path)}")
    assert text.endswith(remedy)


def test_the_line_is_the_users_when_a_library_raised(tmp_path):
    path = write(tmp_path / "failing.py", "import json\n\ndef load():\n    return json.loads('{')\n\nload()\n")
    add_user_code([str(path)])
    assert failure("failing:load").startswith(f"model.estimator: {path}:4: JSONDecodeError: ")


def test_an_error_without_a_line_of_the_user():
    assert explain_user_error(ValueError("odd"), "model.model_fn") == "model.model_fn: ValueError: odd"


COMPAT = "write `import tensorflow.compat.v1 as tf`"
SAVED_MODEL = "or export a SavedModel with the TensorFlow 1 that trained the model and score that: model.saved_model"
TENSORFLOW_1 = [
    pytest.param("import tensorflow as tf\ntf.layers.dense\n", f"tf.layers is a name of TensorFlow 1: {COMPAT}", id="tf.layers"),
    pytest.param("import tensorflow as tf\ntf.placeholder\n", f"tf.placeholder is a name of TensorFlow 1: {COMPAT}", id="tf.placeholder"),
    pytest.param("import tensorflow as tf\ntf.train.AdamOptimizer\n", f"tf.train.AdamOptimizer is a name of TensorFlow 1: {COMPAT}", id="tf.train"),
    pytest.param("import tensorflow as tf\ntf.losses.softmax_cross_entropy\n", f"tf.losses.softmax_cross_entropy is a name of TensorFlow 1: {COMPAT}", id="tf.losses"),
    pytest.param("import tensorflow as tf\ntf.estimator.inputs\n", f"tf.estimator.inputs is a name of TensorFlow 1: {COMPAT}", id="tf.estimator.inputs"),
    pytest.param("from tensorflow import layers\n", f"tf.layers is a name of TensorFlow 1: {COMPAT}", id="from tensorflow import"),
    pytest.param("import tensorflow as tf\ntf.contrib.layers.xavier_initializer()\n", SAVED_MODEL, id="contrib"),
    pytest.param("import tensorflow.compat.v1 as tf\ntf.contrib.layers.xavier_initializer()\n", SAVED_MODEL, id="contrib of compat.v1"),
    pytest.param("from tensorflow.contrib import slim\n", SAVED_MODEL, id="from contrib"),
    pytest.param("import tensorflow.compat.v1 as tf\ntf.nn.no_such_op\n", "has no attribute 'no_such_op'", id="no name of any TensorFlow"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "remedy"), TENSORFLOW_1)
def test_names_of_tensorflow_1(tmp_path, source, remedy):
    add_user_code([str(write(tmp_path / "old_model.py", source))])
    text = failure("old_model:model_fn", needs_tensorflow=True)
    assert text.startswith(f"model.estimator: {tmp_path}/old_model.py:")
    assert text.endswith(remedy)


def test_contrib_is_named_as_the_user_wrote_it(tmp_path):
    add_user_code(
        [str(write(tmp_path / "old_model.py", "import tensorflow as tf\ntf.contrib.layers.l2_regularizer(1.0)\n"))]
    )
    assert "tf.contrib.layers.l2_regularizer was removed in TensorFlow 2" in failure(
        "old_model:f", needs_tensorflow=True
    )


def test_tf_estimator_is_there_for_the_users_module(tmp_path):
    source = "import tensorflow as tf\nBASE = tf.estimator.Estimator\ndef build(): return BASE.__name__\n"
    add_user_code([str(write(tmp_path / "my_model.py", source))])
    assert resolve("my_model:build", "model.estimator", needs_tensorflow=True)().startswith("Estimator")


AVAILABLE = {"model_dir": "m", "params": {"n": 1}, "config": None}


def test_known_arguments_are_those_that_the_signature_names():
    assert call_with_known_arguments(lambda: "none", AVAILABLE) == "none"
    assert call_with_known_arguments(lambda params, model_dir: (params, model_dir), AVAILABLE) == ({"n": 1}, "m")
    assert call_with_known_arguments(lambda config=1, other=2: (config, other), AVAILABLE) == (None, 2)
    assert call_with_known_arguments(lambda params, **rest: (params, rest), AVAILABLE) == (
        {"n": 1},
        {"model_dir": "m", "config": None},
    )
    assert call_with_known_arguments(functools.partial(lambda a, params: (a, params), 5), AVAILABLE) == (5, {"n": 1})


@pytest.mark.parametrize("positional_only", [False, True])
def test_a_required_argument_that_nobody_has(positional_only):
    def build(params, hparams): ...

    def build_with_slash(hparams, /): ...

    with pytest.raises(JobError) as refused:
        call_with_known_arguments(build_with_slash if positional_only else build, AVAILABLE)
    assert "requires the argument 'hparams'" in str(refused.value)
    assert "it can have model_dir, params, config by name" in str(refused.value)


def test_source_files_are_all_that_scores_rest_on(tmp_path):
    package = tmp_path / "my_trainer"
    expected = [
        write(package / "__init__.py", ""),
        write(package / "vocabulary.txt", "a"),
        write(package / "nets" / "wide.py"),
        write(tmp_path / "beside.py"),
        wheel(tmp_path / "lib.whl", my_lib__slash____init____dot__py=""),
    ]
    write(package / "__pycache__" / "wide.cpython-311.pyc", "")
    write(package / ".git" / "HEAD", "")
    write(tmp_path / "not_used.py")
    code = [str(package), str(tmp_path / "lib.whl")]
    add_user_code([*code, str(tmp_path / "beside.py")])
    function = resolve("beside:build", "model.estimator")
    inside = resolve("my_trainer.nets.wide:build", "model.estimator")
    found = source_files(code, [function, functools.partial(function), inside, len])
    assert found == sorted(str(path) for path in expected)
