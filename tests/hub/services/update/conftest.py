"""Who serves an update, and whom."""

import pytest

from deploy.pki import DevelopmentAuthority


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> DevelopmentAuthority:
    authority = DevelopmentAuthority(tmp_path_factory.mktemp("pki"))
    authority.issue("broker", hosts=["localhost"])
    authority.issue("MTR-1", file_name="hub")
    return authority
