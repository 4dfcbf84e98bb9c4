"""The other end of the wire: a project server to run at home, in tests and in a studio that wants its own.

Imports ``sheepfold.protocol`` and the leaves in ``sheepfold``; nothing but the ``sheepfold`` command imports it.
"""
