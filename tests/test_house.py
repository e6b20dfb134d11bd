"""Rules of the house that no linter holds: the core stays small, imports stay light, nothing unsafe is loaded."""

from __future__ import annotations

import ast
import fnmatch
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "feedwell"

CORE_LINES = 2_000
HEAVY = {"torch", "onnx", "onnxruntime", "xgboost", "pyspark", "ray", "redis", "mlflow", "pandas"}
LOADERS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "torch"}
# A path of somebody's own machine. What precedes it must not make it part of a URL or of a longer path.
OWN_PATH = re.compile(r"(?<![\w.${}/-])/(?:work|root|home/\w+|Users/\w+)/")


def modules_after(code: str) -> set[str]:
    """Names in sys.modules of a fresh interpreter after `code`; whatever else it prints goes to stderr."""
    program = (
        "import contextlib, json, sys\n"
        "with contextlib.redirect_stdout(sys.stderr):\n"
        + "".join(f"    {line}\n" for line in code.splitlines())
        + "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def repository_files() -> Iterator[Path]:
    """Every file that .gitignore does not name by its folder or ending."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line[:1] not in ("#", "")]

    def walk(folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            if path.name == ".git" or path.is_symlink() or any(fnmatch.fnmatch(path.name, p) for p in ignored):
                continue
            if path.is_dir():
                yield from walk(path)
            else:
                yield path

    return walk(ROOT)


def unsafe_loads(source: str) -> list[str]:
    """Calls that could run code hidden in a file, as `line: name`, under whatever alias they were imported."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.asname or a.name: a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        head, _, rest = ast.unparse(node.func).partition(".")
        called = f"{names.get(head, head)}.{rest}".rstrip(".")
        library, function = called.partition(".")[0], called.rpartition(".")[2]
        pickled = any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords)
        if pickled or (library in LOADERS and function in {"load", "loads", "Unpickler"}):
            found.append(f"{node.lineno}: {called}")
    return found


def test_core_is_small() -> None:
    lines = {path.name: len(path.read_text().splitlines()) for path in (SRC / "core").rglob("*.py")}
    assert lines
    assert sum(lines.values()) <= CORE_LINES, (
        f"core holds nouns and rules only; longest first: {sorted(lines.items(), key=lambda kv: -kv[1])}"
    )


@pytest.mark.parametrize("module", ["core", "pipeline", "serving.app", "cli"])
def test_heavy_libraries_stay_in_the_leaves(module: str) -> None:
    everything = (
        "import importlib, pkgutil\n"
        f"module = importlib.import_module('feedwell.{module}')\n"
        "for found in pkgutil.iter_modules(getattr(module, '__path__', []), module.__name__ + '.'):\n"
        "    importlib.import_module(found.name)"
    )
    assert modules_after(everything) & HEAVY == set()


def test_import_feedwell_is_light() -> None:
    assert modules_after("import feedwell; feedwell.__version__") & (HEAVY | {"numpy", "duckdb", "pydantic"}) == set()


def test_help_reads_neither_arrays_nor_a_database() -> None:
    code = (
        "sys.argv = ['feedwell', '--help']\n"
        "from feedwell.cli import main\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main()"
    )
    assert modules_after(code) & (HEAVY | {"numpy", "duckdb", "ibis", "pyarrow", "fastapi"}) == set()


def test_no_path_of_a_developers_machine() -> None:
    mentions = []
    for path in repository_files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        mentions += [f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(lines, 1) if OWN_PATH.search(line)]
    assert mentions == []


def test_own_paths_are_recognised() -> None:
    own, folder = "work", "root"
    for line in (f"/{own}/main", f'open("/{folder}/x")', f"see /{own}/shared/x.md"):
        assert OWN_PATH.search(line), line
    for line in (f"https://example.org/{own}/main", f"src/{own}/x", f"{{root}}/{own}/x", "/tmp/x"):
        assert not OWN_PATH.search(line), line


def test_no_file_is_loaded_as_code() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{call}" for path in SRC.rglob("*.py") for call in unsafe_loads(path.read_text())
    ]
    assert found == [], "read safetensors, ONNX, JSON or Arrow instead: data, not code"


def test_unsafe_loads_are_recognised() -> None:
    source = (
        "import pickle as p, torch, json\nfrom joblib import load as read\nimport numpy as np\n"
        "p.load(f)\ntorch.load(f)\nread(f)\nnp.load(f, allow_pickle=True)\n"
        "json.load(f)\nnp.load(f)\nnp.load(f, allow_pickle=False)\nself.load(f)\n"
    )
    assert unsafe_loads(source) == ["4: pickle.load", "5: torch.load", "6: joblib.load", "7: numpy.load"]


def broad_handlers(source: str) -> list[int]:
    """Lines of handlers that let no exception through: bare, of Exception or of BaseException, and without a raise."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler):
            caught = (
                {"BaseException"}
                if node.type is None
                else {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
            )
            raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            found += [node.lineno] if caught & {"Exception", "BaseException"} and not raises else []
    return found


def test_only_the_runner_lets_no_exception_through() -> None:
    allowed = {
        "pipeline/project_folder.py",  # runs a plug-in file: what it raises is reported with all other problems
        "serving/lane.py",  # hands what it caught to the thread that waits for it, which raises it
    }
    found = {path.relative_to(SRC).as_posix() for path in SRC.rglob("*.py") if broad_handlers(path.read_text())}
    assert found <= allowed, "catch what you expect; what must outlive anything goes through pipeline/contained.py"


def test_broad_handlers_are_recognised() -> None:
    source = (
        "try:\n    pass\nexcept ValueError:\n    pass\nexcept (OSError, Exception):\n    pass\n"
        "try:\n    pass\nexcept BaseException:\n    raise\ntry:\n    pass\nexcept:\n    pass\n"
    )
    assert broad_handlers(source) == [5, 13]


def test_every_requirement_is_bounded_and_pinned_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!]+(?: ; [\w.' <>=]+)?", line)] == []
    pins = {canonicalize_name(name): version for name, version in (line.split(" ;")[0].split("==") for line in lines)}
    optional = [text for texts in project["optional-dependencies"].values() for text in texts]
    for text in project["dependencies"] + optional:
        bounds = {part.operator for part in Requirement(text).specifier}
        assert bounds >= {">=", "<"}, f"{text}: give both a lower and an upper bound"
    for text in project["dependencies"] + project["optional-dependencies"]["dev"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text
