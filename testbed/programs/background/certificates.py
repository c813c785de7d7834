# SPDX-License-Identifier: BSD-3-Clause
"""Certificates for names of the example domains, issued by an authority made for the run."""

from __future__ import annotations

import base64
import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    """Files of one server: the authority that clients trust, its chain, its key."""

    authority: Path
    chain: Path
    key: Path

    def pin(self) -> str:
        """Return the base64 SHA-256 of the public key, for Chromium's option to trust it."""
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        leaf = x509.load_pem_x509_certificate(self.chain.read_bytes())
        public = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(hashlib.sha256(public).digest()).decode()


def lacking() -> list[str]:
    """Return what certificates lack on this machine, a sentence each."""
    if find_spec("trustme") is None:
        return ["trustme is missing: pip install 'midcall[bystanders]'"]
    return []


def certificate(folder: Path, *names: str) -> Certificate:
    """Make a certificate for names or addresses; its files go into a folder, made if missing."""
    import trustme

    folder.mkdir(parents=True, exist_ok=True)
    made = Certificate(folder / "authority.pem", folder / "chain.pem", folder / "key.pem")
    authority = trustme.CA(organization_name="Midcall lab")
    leaf = authority.issue_cert(*names, common_name=names[0])
    authority.cert_pem.write_to_path(made.authority)
    made.chain.write_bytes(b"".join(one.bytes() for one in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(made.key)
    made.key.chmod(0o600)
    return made
