"""The imports point down only, and only files.py opens a path."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "kd_tf"
ROWS = [
    {"__main__"},
    {"main", "predict"},
    {"stages"},
    {"teachers", "training", "evaluation", "export"},
    {"data", "detectors"},
    {
        "geometry",
        "files",
        "documents",
        "values",
        "schema",
        "manifests",
        "progress",
        "setting",
        "specs",
        "names",
        "flags",
        "checks",
        "config",
        "errors",
    },
]
ROW = {name: row for row, names in enumerate(ROWS) for name in names}
LIGHT = {"main", "config", "setting", "flags", "checks", "specs", "names", "errors", "values"}
HEAVY = {"tensorflow", "keras", "keras_cv", "matplotlib", "sklearn", "pycocotools"}
FORBIDDEN_CALLS = {"open", "COCO", "h5py.File", "os.remove", "os.rename", "os.makedirs", "os.mkdir"}


def _modules():
    return sorted(PACKAGE.rglob("*.py"))


def _part(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(tree: ast.AST, *, at_top: bool) -> set[str]:
    nodes = ast.iter_child_nodes(tree) if at_top else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    part = _part(path)
    if part == "__init__":
        return
    for name in _imports(ast.parse(path.read_text()), at_top=False):
        if not name.startswith("kd_tf."):
            assert not (name.split(".")[0] == "keras_cv" and part != "detectors"), name
            continue
        other = name.split(".")[1]
        if other in ("__version__", part):
            continue
        bottom = len(ROWS) - 1
        assert ROW[part] < ROW[other] or ROW[part] == ROW[other] == bottom, (
            f"{path} imports {name}: {part} stands beside or below {other}"
        )


@pytest.mark.parametrize("name", sorted(LIGHT))
def test_light_modules_import_nothing_heavy_at_the_top(name):
    tree = ast.parse((PACKAGE / f"{name}.py").read_text())
    for imported in _imports(tree, at_top=True):
        assert imported.split(".")[0] not in HEAVY, imported
        if imported.startswith("kd_tf.") and imported.split(".")[1] != "__version__":
            assert imported.split(".")[1] in LIGHT, imported


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_paths_are_opened_by_files_only(path):
    if path == PACKAGE / "files.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in FORBIDDEN_CALLS, f"{path}:{node.lineno} calls {called}"
            assert not called.startswith(("os.path.exists", "os.path.is", "shutil.")), (
                f"{path}:{node.lineno} calls {called}"
            )
