"""What people call the numbers of Zigbee frames. Sources: ZCL revision 8 (07-5123), Smart Energy 1.4 (07-5356), Zigbee
R22 (05-3474) table 2-44 ff. What is not here is shown as its number."""

PROFILES = {0x0000: "ZDO", 0x0104: "HA", 0x0109: "SE", 0xC05E: "ZLL", 0xA1E0: "GP"}

CLUSTERS = {
    0x0000: "Basic", 0x0001: "Power Configuration", 0x0003: "Identify", 0x0004: "Groups", 0x0005: "Scenes",
    0x0006: "On/Off", 0x0008: "Level Control", 0x000A: "Time", 0x000C: "Analog Input", 0x0019: "OTA Upgrade",
    0x0020: "Poll Control", 0x0201: "Thermostat", 0x0402: "Temperature", 0x0405: "Relative Humidity",
    0x0500: "IAS Zone", 0x0700: "Price", 0x0701: "Demand Response", 0x0702: "Metering", 0x0703: "Messaging",
    0x0704: "Tunneling", 0x0800: "Key Establishment", 0x0B04: "Electrical Measurement",
}  # fmt: skip

# 07-5123, table 2-3: commands of every cluster.
COMMANDS = {
    0x00: "Read Attributes", 0x01: "Read Attributes Response", 0x02: "Write Attributes",
    0x04: "Write Attributes Response", 0x06: "Configure Reporting", 0x07: "Configure Reporting Response",
    0x08: "Read Reporting Configuration", 0x09: "Read Reporting Configuration Response", 0x0A: "Report Attributes",
    0x0B: "Default Response", 0x0C: "Discover Attributes", 0x0D: "Discover Attributes Response",
}  # fmt: skip

# (cluster, whether the server sends it, command).
CLUSTER_COMMANDS = {
    (0x0006, False, 0x00): "Off", (0x0006, False, 0x01): "On", (0x0006, False, 0x02): "Toggle",
    (0x0006, False, 0x42): "On With Timed Off", (0x0008, False, 0x00): "Move To Level",
    (0x0008, False, 0x04): "Move To Level (with On/Off)", (0x0500, True, 0x00): "Zone Status Change Notification",
    (0x0500, True, 0x01): "Zone Enroll Request", (0x0500, False, 0x00): "Zone Enroll Response",
    (0x0700, True, 0x00): "Publish Price", (0x0700, False, 0x00): "Get Current Price",
    (0x0701, True, 0x00): "Load Control Event", (0x0701, True, 0x01): "Cancel Load Control Event",
    (0x0701, False, 0x00): "Report Event Status", (0x0701, False, 0x01): "Get Scheduled Events",
}  # fmt: skip

ATTRIBUTES = {
    (0x0000, 0x0004): "ManufacturerName", (0x0000, 0x0005): "ModelIdentifier", (0x0001, 0x0021): "BatteryPercentage",
    (0x0006, 0x0000): "OnOff", (0x0008, 0x0000): "CurrentLevel", (0x000C, 0x0055): "PresentValue",
    (0x0201, 0x0000): "LocalTemperature", (0x0201, 0x0012): "OccupiedHeatingSetpoint",
    (0x0402, 0x0000): "MeasuredValue", (0x0405, 0x0000): "MeasuredValue",
    (0x0702, 0x0000): "CurrentSummationDelivered", (0x0702, 0x0001): "CurrentSummationReceived",
    (0x0702, 0x0300): "UnitOfMeasure", (0x0702, 0x0301): "Multiplier", (0x0702, 0x0302): "Divisor",
    (0x0702, 0x0400): "InstantaneousDemand", (0x0B04, 0x0304): "TotalActivePower", (0x0B04, 0x0505): "RMSVoltage",
    (0x0B04, 0x0508): "RMSCurrent", (0x0B04, 0x050B): "ActivePower", (0x0B04, 0x0510): "PowerFactor",
    (0x0B04, 0x0604): "ACPowerMultiplier", (0x0B04, 0x0605): "ACPowerDivisor",
}  # fmt: skip

# Of the device profile; an answer has the request's number and the highest bit (2.4.2).
ZDO_REQUESTS = {
    0x0000: "NWK_addr", 0x0001: "IEEE_addr", 0x0002: "Node_Desc", 0x0003: "Power_Desc", 0x0004: "Simple_Desc",
    0x0005: "Active_EP", 0x0006: "Match_Desc", 0x0021: "Bind", 0x0022: "Unbind", 0x0031: "Mgmt_Lqi",
    0x0032: "Mgmt_Rtg", 0x0034: "Mgmt_Leave", 0x0036: "Mgmt_Permit_Joining", 0x0038: "Mgmt_NWK_Update",
}  # fmt: skip
DEVICE_ANNOUNCE = 0x0013


def zdo_command(cluster: int) -> str:
    """`Node_Desc_req`, `Node_Desc_rsp`; a number where it has no name here."""
    if cluster == DEVICE_ANNOUNCE:
        return "Device_annce"
    name = ZDO_REQUESTS.get(cluster & 0x7FFF)
    if name is None:
        return f"0x{cluster:04X}"
    return f"{name}_{'rsp' if cluster & 0x8000 else 'req'}"
