"""A bare MQTT-SN client over UDP: bytes written here by hand from MQTT-SN 1.2, none of the product's code."""

import socket
import struct


class UdpAdapter:
    """Blocking, one request at a time; what a simple device does."""

    def __init__(self, port: int, client_id: str, timeout_s: float = 10.0) -> None:
        self.client_id = client_id
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(timeout_s)
        self.sock.connect(("127.0.0.1", port))
        self._msg_id = 0

    def next_msg_id(self) -> int:
        self._msg_id = self._msg_id % 0xFFFF + 1
        return self._msg_id

    def send(self, msg_type: int, body: bytes) -> None:
        size = len(body) + 2
        # Section 5.2.1: beyond 255 a Length of three bytes, which counts itself.
        length = bytes((size,)) if size < 256 else b"\x01" + (size + 2).to_bytes(2)
        self.sock.send(length + bytes((msg_type,)) + body)

    def receive(self) -> tuple[int, bytes]:
        """`(message type, body)` of the next datagram. Raises TimeoutError."""
        data = self.sock.recv(2048)
        return data[1], data[2:]

    def expect(self, msg_type: int) -> bytes:
        got, body = self.receive()
        assert got == msg_type, f"expected 0x{msg_type:02X}, got 0x{got:02X} {body.hex()}"
        return body

    def connect(self, *, clean: bool = True, duration_s: int = 60) -> int:
        """CONNECT; the CONNACK's return code."""
        self.send(0x04, struct.pack(">BBH", 0x04 if clean else 0, 1, duration_s) + self.client_id.encode())
        return self.expect(0x05)[0]

    def connect_again(self, tries: int = 6) -> int:
        """The same where datagrams may be lost, in a socket's full buffer for one: sent again until there is an answer
        (MQTT-SN 1.2, section 6.13). Raises TimeoutError."""
        for _ in range(tries):
            try:
                code = self.connect()
                break
            except TimeoutError:
                continue
        else:
            raise TimeoutError(f"{tries} times no answer to CONNECT")
        self.send(0x16, b"")  # PINGREQ: what comes before its answer is to a CONNECT that was only late
        while self.receive()[0] != 0x17:
            continue
        return code

    def publish(
        self,
        topic_id: int,
        data: bytes,
        *,
        qos: int = 1,
        dup: bool = False,
        msg_id: int | None = None,
        topic_id_type: int = 1,
    ) -> int | None:
        """PUBLISH to a predefined topic id; the PUBACK's return code, None for QoS 0 and -1."""
        msg_id = self.next_msg_id() if msg_id is None else msg_id
        flags = (0x80 if dup else 0) | (qos & 3) << 5 | topic_id_type
        self.send(0x0C, struct.pack(">BHH", flags, topic_id, msg_id if qos > 0 else 0) + data)
        if qos == 1:
            _, acked_id, code = struct.unpack(">HHB", self.expect(0x0D))
            assert acked_id == msg_id
            return int(code)
        if qos == 2:
            got, body = self.receive()
            if got == 0x0D:
                return body[-1]
            assert (got, body) == (0x0F, struct.pack(">H", msg_id))
            self.send(0x10, body)
            assert self.expect(0x0E) == body
            return 0
        return None

    def close(self) -> None:
        self.sock.close()
