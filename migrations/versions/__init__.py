"""One file per revision, numbered; never changed after a release."""
