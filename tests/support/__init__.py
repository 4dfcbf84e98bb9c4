"""Harnesses, fakes and builders that tests of several kinds share."""
