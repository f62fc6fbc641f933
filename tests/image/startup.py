"""What a starting hub imports, in that order: `python -m tests.image.startup >deploy/image/startup.list`."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_CODE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import hub.__main__
from drivers import lazy_imports
with lazy_imports.imports():
    import hub.app.daemon
import encodings.idna, concurrent.futures.thread
import drivers.zigbee
print("\\n".join(sys.modules))
"""
_NOT_THERE = ("__main__", "__editable__", "_distutils_hack", "sitecustomize")


def main() -> None:
    done = subprocess.run([sys.executable, "-I", "-c", _CODE], capture_output=True, text=True, check=True)
    print(
        "# Modules in the order in which a starting hub imports them: deploy/image/squash.py puts their files side by"
    )
    print("# side. Made by `python -m tests.image.startup`; an old list costs time and nothing else.")
    print("\n".join(name for name in done.stdout.split() if not name.startswith(_NOT_THERE)))


if __name__ == "__main__":
    main()
