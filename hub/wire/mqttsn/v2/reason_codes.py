# SPDX-License-Identifier: GPL-3.0-or-later
"""MQTT-SN 2.0 reason codes (2.3) and what they are in 1.2's four return codes (5.3.10), both ways."""

from hub.wire.mqttsn.messages import ACCEPTED, CONGESTION, INVALID_TOPIC_ID, NOT_SUPPORTED

SUCCESS = 0x00
DISCONNECT_WITH_WILL = 0x04
NO_SUBSCRIPTION_EXISTED = 0x11
TOPIC_ALIAS_EXISTS = 0x1A
UNSPECIFIED_ERROR = 0x80
MALFORMED_PACKET = 0x81
PROTOCOL_ERROR = 0x82
IMPLEMENTATION_SPECIFIC_ERROR = 0x83
UNSUPPORTED_PROTOCOL_VERSION = 0x84
CLIENT_IDENTIFIER_NOT_VALID = 0x85
NOT_AUTHORIZED = 0x87
BAD_AUTHENTICATION_METHOD = 0x8C
SESSION_TAKEN_OVER = 0x8E
TOPIC_FILTER_INVALID = 0x8F
TOPIC_NAME_INVALID = 0x90
PACKET_IDENTIFIER_IN_USE = 0x91
UNKNOWN_TOPIC_ALIAS = 0xF0
CONGESTED = 0xF1
PROTECTION_NOT_SUPPORTED = 0xF2
NO_VIRTUAL_CONNECTION = 0xF4


def reason_of(return_code: int, not_supported: int) -> int:
    """Our 1.2 answer's return code; `not_supported` is what 0x03 means in this kind of answer."""
    if return_code == ACCEPTED:
        return SUCCESS
    if return_code == CONGESTION:
        return CONGESTED
    if return_code == INVALID_TOPIC_ID:
        return UNKNOWN_TOPIC_ALIAS
    return not_supported


def return_code_of(reason_code: int) -> int:
    """A client's reason code. Below 0x80 all is well; what only time can mend is congestion; the rest is final."""
    if reason_code < UNSPECIFIED_ERROR:
        return ACCEPTED
    if reason_code in (CONGESTED, PACKET_IDENTIFIER_IN_USE):
        return CONGESTION
    return INVALID_TOPIC_ID if reason_code == UNKNOWN_TOPIC_ALIAS else NOT_SUPPORTED
