"""The SheepIt wire protocol: messages, and how they are read and written. Pure: no I/O, no clock, no role.

The coordinator reads what the lab server writes and the other way round, so neither can cheat. ``protocol.txt`` is the
specification; ``docs/explanation/protocol.md`` says what it leaves open and what was decided.
"""
