"""What a board lets in and out, and whose time it believes: the files, without a board (test_closed.py has one)."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.image.initramfs import FILTER_MODULES
from tests.harness.lot import Lot

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = REPOSITORY / "deploy/image/files"
RULES = (FILES / "etc/nftables.conf").read_text()
TIME_SOURCES = FILES / "usr/lib/meterhub/time-sources"


def test_every_chain_drops_what_no_rule_names() -> None:
    hooks = re.findall(r"hook (\w+) priority filter; policy (\w+);", RULES)
    assert hooks == [("input", "drop"), ("output", "drop"), ("forward", "drop")]
    assert RULES.index("flush ruleset") < RULES.index("table inet")


def test_what_comes_in_is_an_engineer_the_homes_adapters_and_an_address() -> None:
    """Everything else of the chain is answers, this board itself, neighbours and echoes."""
    incoming = RULES[RULES.index("chain incoming") : RULES.index("chain echo")]
    assert set(re.findall(r"(?:tcp|udp) dport (\S+)", incoming)) == {"68", "546", "22", "$mqtt_sn"}
    assert "define mqtt_sn = 1884" in RULES
    for line in incoming.splitlines():
        assert "$mqtt_sn" not in line or re.search(r"ip6? saddr \$near6? ", line), "the home's addresses alone"


def test_the_users_that_may_out_are_the_images() -> None:
    made = "".join(path.read_text() for path in REPOSITORY.glob("deploy/**/sysusers.d/*.conf"))
    for name in re.findall(r'skuid "([^"]+)"', RULES):
        assert re.search(rf"^u {name} ", made, re.MULTILINE) or name.startswith("systemd-"), name
    assert 'skuid "root"' not in RULES and "skuid 0" not in RULES


def test_the_filter_is_started_and_the_initramfs_has_what_it_needs() -> None:
    preset = (FILES / "usr/lib/systemd/system-preset/00-hub.preset").read_text()
    assert "enable nftables.service\n" in preset and preset.endswith("disable *\n")
    assert '"nftables"' in (REPOSITORY / "deploy/image/packages.toml").read_text()
    assert {"nf_tables", "nft_ct", "nft_limit"} <= set(FILTER_MODULES)
    words = set(re.findall(r"\b(fib|reject|log|nat|masquerade|queue|socket|tproxy|hash|numgen)\b", _rules_alone()))
    assert not words, f"these would want more modules: {words}"


def test_the_hub_is_told_where_to_see_that_the_filter_stands() -> None:
    units = FILES / "usr/lib/systemd/system"
    promised = re.findall(r"METERHUB_PACKET_FILTER=(\S+)", (units / "meterhub.service.d/filter.conf").read_text())
    lines = (units / "nftables.service.d/hub.conf").read_text().splitlines()
    assert [f"ExecStartPost=/usr/bin/touch {mark}" in lines for mark in promised] == [True]
    assert f"ExecStopPost=/usr/bin/rm -f {promised[0]}" in lines


def _rules_alone() -> str:
    return re.sub(r"#.*", "", RULES)


def test_nft_reads_it(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_text(re.sub(r'skuid "[^"]+"', "skuid 65534", RULES))  # the image's users are not this machine's
    alone = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    path = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
    if subprocess.run([*alone, "true"], env=path, capture_output=True).returncode:
        pytest.skip("nobody but root has a network of his own here")
    command = [*alone, "nft", "-c", "-f", str(rules)]
    done = subprocess.run(command, env=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rules.write_text(rules.read_text().replace("policy drop", "policy dorp", 1))
    assert subprocess.run(command, env=path, capture_output=True).returncode != 0


def test_no_user_namespace_for_who_is_not_root() -> None:
    settings = dict(
        line.split(" = ")
        for line in (FILES / "etc/sysctl.d/60-hub.conf").read_text().splitlines()
        if not line.startswith("#")
    )
    assert settings["kernel.unprivileged_userns_clone"] == "0"
    assert 0 < int(settings["user.max_user_namespaces"]) <= 64, "the units have some"


@pytest.mark.parametrize(
    ("files", "least"),
    [
        ({}, 1),
        ({"a.conf": "server one iburst\n"}, 1),
        ({"a.conf": "server one iburst\nserver two iburst"}, 2),
        ({"a.conf": "# server one\nserver one nts\n", "b.conf": "  server two\n"}, 2),
        ({"a.conf": "pool pool.example iburst\n"}, 2),
        ({"a.conf": "ntstrustedcerts /etc/meterhub/ntp/nts-ca.pem\nserver one nts\n", "b.txt": "server two\n"}, 1),
    ],
)
def test_two_servers_have_to_agree_where_there_are_two(tmp_path: Path, files: dict[str, str], least: int) -> None:
    (tmp_path / "ntp").mkdir()
    for name, text in files.items():
        (tmp_path / "ntp" / name).write_text(text)
    into = tmp_path / "minsources.conf"
    subprocess.run(["sh", str(TIME_SOURCES), str(tmp_path / "ntp"), str(into)], check=True)
    assert into.read_text() == f"minsources {least}\n" and not into.with_suffix(".conf.new").exists()


def test_a_lots_time_servers_are_authenticated_where_the_utility_has_an_authority(tmp_path: Path) -> None:
    authority = tmp_path / "nts-ca.pem"
    authority.write_text("-----BEGIN CERTIFICATE-----\n")
    plain, nts = Lot(tmp_path / "plain"), Lot(tmp_path / "nts")
    assert "one time server, and no NTS" in plain.do("init", "--ntp", "time.example")
    assert (plain.folder / "shared/ntp/utility.conf").read_text() == "server time.example iburst\n"
    said = nts.do("init", "--ntp", "one.example", "--ntp", "two.example", "--nts-ca", str(authority))
    assert "warning" not in said
    assert (nts.folder / "shared/ntp/utility.conf").read_text() == (
        "ntstrustedcerts /etc/meterhub/ntp/nts-ca.pem\nserver one.example iburst nts\nserver two.example iburst nts\n"
    )
    assert (nts.folder / "shared/ntp/nts-ca.pem").read_bytes() == authority.read_bytes()


@pytest.mark.skipif(not shutil.which("chronyd", path="/usr/sbin:/usr/bin"), reason="chrony is not here")
def test_chrony_reads_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "ntp").mkdir()
    (tmp_path / "ntp/utility.conf").write_text("ntstrustedcerts /nts-ca.pem\nserver one.example iburst nts\n")
    (tmp_path / "minsources.conf").write_text("minsources 2\n")
    text = (FILES / "etc/chrony/chrony.conf").read_text()
    text = text.replace("/etc/meterhub/ntp", str(tmp_path / "ntp")).replace("/run/chrony", str(tmp_path))
    (tmp_path / "chrony.conf").write_text(text)
    command = [shutil.which("chronyd", path="/usr/sbin:/usr/bin") or "", "-p", "-f", str(tmp_path / "chrony.conf")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"minsources 2", "nocerttimecheck 1", "server one.example iburst nts"} <= set(done.stdout.splitlines())
