"""Submission: a verified commit is handed over with its signed verification record, which anybody can check offline."""

from __future__ import annotations

from harness.submission.branch import BranchSubmitter
from harness.submission.files import record_path, write_record
from harness.submission.keys import SigningKey, load_public_key
from harness.submission.record import make_record
from harness.submission.verify import Verification, verify_file, verify_record

__all__ = [
    "BranchSubmitter",
    "SigningKey",
    "Verification",
    "load_public_key",
    "make_record",
    "record_path",
    "verify_file",
    "verify_record",
    "write_record",
]
