"""The ``sheepfold`` command."""


def main() -> None: ...
