"""The cost of a password's hash, which the other tests lower (tests/conftest.py)."""

import runpy

import argon2

from celcombiller.runtime.credentials import password_hash


def test_passwords_are_hashed_with_the_librarys_parameters():
    product = runpy.run_path(password_hash.__file__)
    hashed = product["hash_password"]("correct horse")
    assert not argon2.PasswordHasher().check_needs_rehash(hashed)
    assert argon2.extract_parameters(hashed).type is argon2.Type.ID
