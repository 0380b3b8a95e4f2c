"""Scipion's tests of the plugin: run by ``scipion3 tests`` and by pytest."""
