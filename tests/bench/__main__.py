"""`make bench`: measures, and prints the rows of the README's table."""

import sys

from tests.bench import gateway, idle, limit


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    figures = idle.measure()
    print("| figure | value |\n|---|---|")
    print(f"| idle hub with the radio loaded | {figures['idle_cpu_percent']:.2f} % of a core, "
          f"{figures['rss_mib_with_radio']:.1f} MiB resident |")  # fmt: skip
    print(f"| one reading (ten appliances, 15 s packs) | {figures['payload_bytes_per_reading']:.1f} B sealed, "
          f"{figures['tls_bytes_up_per_reading']:.1f} B sent with TLS and TCP's payload |")  # fmt: skip
    print(f"| one durable commit, all told | {figures['flash_bytes_per_commit']:.0f} B of flash |")
    radio = limit.measure()
    print(f"| command to order over the radio at 115,200 baud, {radio['adapters']} adapters | "
          f"p50 {radio['p50_ms']:.0f} ms, p99 {radio['p99_ms']:.0f} ms |", flush=True)  # fmt: skip
    for row in gateway.measure(seconds):
        print(
            f"| QoS 1, {row['payload']}, {row['clients']} clients | {row['rate']:,.0f}/s durable, "
            f"p50 {row['p50_ms']:.2f} ms, p99 {row['p99_ms']:.2f} ms, {row['cpu_s_per_10000']:.2f} CPU s per 10,000; "
            f"{row['ratio_to_ceiling']:.2f} of the ceiling, {row['ratio_to_echo']:.2f} of a bare echo |",
            flush=True,
        )
    home = gateway.measure_sessions()
    print(f"| {home['sessions']:,.0f} adapters connected and subscribed | "
          f"{home['rss_bytes'] / 2**20:.0f} MiB resident, "
          f"{home['bytes_per_session'] / 1000:.1f} kB each |")  # fmt: skip


if __name__ == "__main__":
    main()
