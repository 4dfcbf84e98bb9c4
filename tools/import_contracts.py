"""Import contracts as allow-lists: what is not named is forbidden, so a new module is bound on the day it is written.

Two kinds for ``[tool.importlinter]`` in pyproject.toml, beside import-linter's own layers:

* ``only``: ``source_modules`` (packages with all below them) import from nothing but ``may_import`` and themselves;
* ``owners``: each library that is not Python's own has owners, ``"requests: coordinator.upstream.transport, ..."``, and
  is imported by nobody else; a library without a line is imported by nobody.

Both look at direct imports only: what an allowed module imports in its turn is bound by that module's own contract.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


def _is_within(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


class _ListedImports(Contract):
    """Shows the imports that :meth:`_broken` of a subclass names."""

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        found = sorted(self._broken(graph))
        return ContractCheck(kept=not found, metadata={"imports": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported in check.metadata["imports"]:
            output.print_error(f"{importer} must not import {imported}", bold=False)

    def _broken(self, graph: ImportGraph) -> Iterable[tuple[str, str]]:
        raise NotImplementedError


class OnlyContract(_ListedImports):
    """``source_modules`` import from nothing but ``may_import``."""

    type_name = "only"
    source_modules = fields.ListField(subfield=fields.StringField())
    may_import = fields.ListField(subfield=fields.StringField())

    def _broken(self, graph: ImportGraph) -> Iterable[tuple[str, str]]:
        sources: list[str] = self.source_modules  # type: ignore[assignment]
        allowed: list[str] = self.may_import  # type: ignore[assignment]
        if missing := [source for source in sources if source not in graph.modules]:
            raise ValueError(f"contract {self.name!r} names modules that do not exist: {', '.join(missing)}")
        for module in graph.modules:
            if _is_within(module, sources):
                for imported in graph.find_modules_directly_imported_by(module):
                    if not _is_within(imported, [*sources, *allowed]):
                        yield module, imported


class OwnersContract(_ListedImports):
    """Libraries that are not Python's own are imported by their owners alone."""

    type_name = "owners"
    owners = fields.ListField(subfield=fields.StringField())

    def _broken(self, graph: ImportGraph) -> Iterable[tuple[str, str]]:
        lines: list[str] = self.owners  # type: ignore[assignment]
        owners = {
            library: owner.replace(" ", "").split(",") for library, _, owner in (line.partition(":") for line in lines)
        }
        for library in graph.modules:
            if not graph.is_module_squashed(library) or library.split(".")[0] in sys.stdlib_module_names:
                continue
            for importer in graph.find_modules_that_directly_import(library):
                if not _is_within(importer, owners.get(library, ())):
                    yield importer, library
