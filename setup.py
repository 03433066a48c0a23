"""Packaging of CELCOMBiller: ``pip install .`` installs the service, its twistd plugin and the command."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'__version__ = "(.*)"', (here / "celcombiller" / "__init__.py").read_text(encoding="utf-8"))[1]

setup(
    name="celcombiller",
    version=version,
    description="Prepaid biller for Asterisk and OpenBTS: no credit spent twice, no answered call free",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="GPL-3.0-or-later",
    python_requires=">=3.11",
    packages=[*find_packages(include=["celcombiller", "celcombiller.*"]), "twisted.plugins"],
    package_data={
        "celcombiller": ["py.typed"],
        "celcombiller.bench": ["*.c"],
        "celcombiller.core.schema.migrations": ["*.mako"],
        "celcombiller.radius": ["dictionary"],
        "twisted.plugins": ["celcombiller_plugin.py"],
    },
    include_package_data=False,
    install_requires=[
        "twisted[tls]>=24.7,<27",
        "klein>=24.8,<26",
        "sqlalchemy>=2.0.36,<2.2",
        "alchimia>=0.8.1,<0.9",
        "psycopg[binary]>=3.2,<4",
        "alembic>=1.13,<2",
        "msgspec>=0.19,<1",
        "argon2-cffi>=23.1,<26",
        "prometheus-client>=0.20,<1",
        "tenacity>=9,<10",
        "pyrad>=2.6,<3",
        "pyzmq>=26,<28",
        "gsm0338>=1.1,<2",
        "smpplib>=2.2.4,<3",
        "rich>=14.1,<16",
        "shtab>=1.7,<2",
        "tzdata",
        "tzlocal>=5.2,<6",
    ],
    extras_require={
        # Not on PyPI: `pip install "starpy @ git+https://github.com/asterisk/starpy@1.1.1"` by hand first.
        "starpy": ["starpy>=1.1"],
        "test": [
            "pytest>=8,<10",
            "pytest-twisted>=1.14,<2",
            "pytest-xdist>=3.6,<4",
            "hypothesis>=6.100,<7",
            "treq>=24.9,<27",
            "trustme>=1.2,<2",
            "schemathesis>=4.32,<5",
            "pyyaml>=6,<7",
            "import-linter>=2,<3",
            "mkdocs-material>=9.5,<10",
            "ruff>=0.9,<1",
            "mypy>=1.13,<3",
            "mypy-zope>=1.0.9,<2",
        ],
    },
    entry_points={"console_scripts": ["celcombiller = celcombiller.cli:main"]},
    classifiers=[
        "Framework :: Twisted",
        "License :: OSI Approved :: GNU General Public License v3 or later (GPLv3+)",
        "Topic :: Communications :: Telephony",
    ],
)
