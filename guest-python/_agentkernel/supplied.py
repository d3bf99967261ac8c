"""Functions that this build of Python lacks and Python itself can do."""

import hashlib
import hmac


def pbkdf2_hmac(hash_name, password, salt, iterations, dklen=None):
    """Password based key derivation function 2 (PKCS #5 v2.0) with HMAC as pseudorandom function."""
    if not isinstance(hash_name, str):
        raise TypeError(f"pbkdf2_hmac() argument 'hash_name' must be str, not {type(hash_name).__name__}")
    digest = hashlib.new(hash_name)
    password, salt = bytes(memoryview(password)), bytes(memoryview(salt))
    if dklen is None:
        dklen = digest.digest_size
    if iterations < 1:
        raise ValueError("iteration value must be greater than 0.")
    if dklen < 1:
        raise ValueError("key length must be greater than 0.")
    if len(password) > digest.block_size:
        # What HMAC does with a long key, done once.
        password = hashlib.new(hash_name, password).digest()
    key = b""
    block = 0
    while len(key) < dklen:
        block += 1
        last = hmac.digest(password, salt + block.to_bytes(4), hash_name)
        total = int.from_bytes(last)
        for _ in range(iterations - 1):
            last = hmac.digest(password, last, hash_name)
            total ^= int.from_bytes(last)
        key += total.to_bytes(len(last))
    return key[:dklen]


def install() -> None:
    """Put the functions where programs look for them."""
    pbkdf2_hmac.__module__ = "hashlib"
    hashlib.pbkdf2_hmac = pbkdf2_hmac
    hashlib.__all__ += ("pbkdf2_hmac",)
