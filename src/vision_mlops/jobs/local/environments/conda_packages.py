"""Translates packages of conda to the names and the version syntax of the Python registry."""

from __future__ import annotations

import re
from dataclasses import dataclass

# The registry's name by conda's, if they differ.
_NAMES = {
    "dask-core": "dask",
    "faiss": "faiss-cpu",
    "faiss-gpu": "faiss-cpu",
    "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack",
    "opencv": "opencv-python-headless",
    "py-opencv": "opencv-python-headless",
    "py-xgboost": "xgboost",
    "py-xgboost-cpu": "xgboost",
    "pyqt": "PyQt5",
    "pytables": "tables",
    "python-graphviz": "graphviz",
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "ruamel_yaml": "ruamel.yaml",
    "seaborn-base": "seaborn",
    "tensorflow-base": "tensorflow",
    "tensorflow-gpu": "tensorflow",
}
_OTHER = """
    _libgcc_mutex _openmp_mutex blas bzip2 c-compiler ca-certificates cmake compilers cpuonly cuda cuda-toolkit cudatoolkit
    cudatoolkit-dev cudnn curl cxx-compiler ffmpeg freetype gcc gcc_linux-64 git git-lfs glib graphviz gxx gxx_linux-64 hdf5
    icu intel-openmp jpeg ld_impl_linux-64 libblas libcblas libffi libgcc libgcc-ng libgfortran libgomp liblapack libopenblas
    libpng libprotobuf libsodium libstdcxx-ng libtiff libuuid libxml2 lz4-c make mkl mpich nccl ncurses nodejs openblas
    openjdk openmpi openssl pandoc pkg-config pytorch-cuda pytorch-mutex r readline sqlite tk unixodbc wget xz yaml zeromq
    zlib zstd
"""
_NOT_PYTHON = frozenset(_OTHER.split())
_INSTALLERS = frozenset({"python", "pip", "setuptools", "wheel", "conda", "mamba"})
_SPEC = re.compile(r"(?:[^\s:=<>!~]+::)?(?P<name>[A-Za-z0-9_][\w.-]*)\s*(?P<rest>.*)", re.DOTALL)
_CLAUSE = re.compile(r"(?P<sign>==|=|>=|<=|!=|~=|>|<|)\s*(?P<version>[\w.!+*-]+)")
_BUILD = re.compile(
    r"^(={0,2}\s*[\w*][\w.+*!-]*)[=\s]+[\w.*-]+$"
)  # a version and its build: `=1.2=py38_0`, `1.2 py38_0`


@dataclass(frozen=True)
class CondaPackage:
    """One line of the dependencies of a conda file.

    Attributes:
        name: Conda's name of the package.
        requirement: Requirement for pip; empty if there is nothing to install.
        version: Requested version, in pip's syntax.
        note: What is not available as the file asks for it; empty if everything is.
    """

    name: str
    requirement: str = ""
    version: str = ""
    note: str = ""


def conda_package(line: str) -> CondaPackage | None:
    """Parse one line such as ``numpy=1.26``, ``conda-forge::pytorch>=2,<3`` or ``pip``; None if it is not a package."""
    match = _SPEC.fullmatch(line.strip())
    if match is None:
        return None
    name, rest = match["name"].lower(), match["rest"].partition("#")[0].strip()
    if name in _NOT_PYTHON or name.startswith(("r-", "cuda-")):
        return CondaPackage(name, note=f"conda package {name!r} is not a Python package and is left out")
    version, note = _version(rest)
    if note:
        note = f"conda package {line.strip()!r}: {note}"
    if name in _INSTALLERS:
        return CondaPackage(name, version=version, note=note if name == "python" else "")
    return CondaPackage(name, f"{_NAMES.get(name, name)}{version}", version, note)


def _version(text: str) -> tuple[str, str]:
    """Translate a version to pip's syntax, and say what is lost: ``=1.2`` is any 1.2, ``=1.2=py38_0`` names a build."""
    if not text:
        return "", ""
    if text.startswith("["):
        return "", f"{text} is not understood; any version is accepted"
    clauses = []
    for part in text.split(","):
        match = _CLAUSE.fullmatch(_BUILD.sub(r"\1", part.strip()))
        if match is None or "|" in part:
            return "", f"the version {text!r} is not understood; any version is accepted"
        sign, version = match["sign"], match["version"]
        if version == "*":
            continue
        if sign in ("", "==") and not version.endswith("*"):
            clauses.append(f"=={version}")
        elif sign in ("", "=", "=="):
            clauses.append(f"=={version.removesuffix('*').removesuffix('.')}.*")
        else:
            clauses.append(f"{sign}{version.removesuffix('.*')}")
    return ",".join(clauses), ""
