"""For tools that call this file: all about the package stands in pyproject.toml."""

from setuptools import setup

setup()
