#!/usr/bin/env python3
"""fetch_zip.py <url> <sha256> <directory>: unpacks an archive whose content is known beforehand, with its files' modes."""
import hashlib
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path


def main():
    url, expected, directory = sys.argv[1:]
    with tempfile.TemporaryFile() as file:
        digest = hashlib.sha256()
        with urllib.request.urlopen(url, timeout=60) as response:
            while block := response.read(1 << 20):
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != expected:
            raise SystemExit(f"{url} is not what it was: SHA-256 {digest.hexdigest()} instead of {expected}")
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                path = Path(archive.extract(entry, directory))
                if mode := entry.external_attr >> 16 & 0o777:
                    path.chmod(mode)


if __name__ == "__main__":
    main()
