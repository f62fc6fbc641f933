// An independent host against the emulated radio: node judge.mjs tcp://HOST:PORT PLUG CODED INSTALL_CODE
// One JSON line a step; the test that started this (tests/emulators/test_herdsman.py) knows what each has to say.
import {mkdtempSync, readFileSync} from "node:fs";
import {tmpdir} from "node:os";
import {join} from "node:path";
import {Controller, setLogger} from "zigbee-herdsman";

const [path, plugIeee, codedIeee, installCode] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "judge-"));
const say = (step, what) => console.log(JSON.stringify({step, what}));
const nothing = () => {};
setLogger({debug: nothing, info: nothing, warning: nothing, error: (text) => console.error(typeof text === "function" ? text() : text)});

const controller = new Controller({
    network: {
        networkKeyDistribute: false,
        networkKey: [1, 3, 5, 7, 9, 11, 13, 15, 0, 2, 4, 6, 8, 10, 12, 13],
        panID: 0x1a62,
        extendedPanID: [1, 2, 3, 4, 5, 6, 7, 8],
        channelList: [15],
    },
    databasePath: join(folder, "database.db"),
    databaseBackupPath: join(folder, "database.db.backup"),
    backupPath: join(folder, "backup.json"),
    transport: {path, adapter: "ember", baudRate: 115200},
    adapter: {disableLED: false, concurrent: 8},
    acceptJoiningDeviceHandler: async () => true,
});

const until = (event, matches) =>
    new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`no ${event} in time`)), 20000);
        const heard = (what) => {
            if (matches(what)) {
                clearTimeout(timer);
                controller.off(event, heard);
                resolve(what);
            }
        };
        controller.on(event, heard);
    });
const interviewed = (ieee) =>
    until("deviceInterview", (what) => what.device.ieeeAddr === ieee && what.status !== "started").then((what) => what.status);

try {
    say("form", await controller.start());
    const network = await controller.getNetworkParameters();
    say("network", [network.panID, network.channel]);

    const joined = interviewed(plugIeee);
    await controller.permitJoin(60);
    say("interview", await joined);
    const plug = controller.getDeviceByIeeeAddr(plugIeee);
    const endpoint = plug.getEndpoint(1);
    say("model", plug.modelID);

    say("read", await endpoint.read("seMetering", ["multiplier", "divisor"]));
    await endpoint.bind("genOnOff", controller.getDevicesByType("Coordinator")[0].getEndpoint(1));
    await endpoint.configureReporting("genOnOff", [
        {attribute: "onOff", minimumReportInterval: 0, maximumReportInterval: 600, reportableChange: 0},
    ]);
    say("bound", endpoint.binds.length);
    const reported = until("message", (what) => what.type === "attributeReport" && what.cluster === "genOnOff");
    await endpoint.command("genOnOff", "off", {});
    say("report", (await reported).data);
    await endpoint.command("genOnOff", "on", {});
    say("on", (await endpoint.read("genOnOff", ["onOff"])).onOff);

    const group = controller.createGroup(7);
    await endpoint.addToGroup(group);
    await group.command("genOnOff", "off", {});
    await new Promise((resolve) => setTimeout(resolve, 500));
    const offByGroup = (await endpoint.read("genOnOff", ["onOff"])).onOff;
    await endpoint.removeFromGroup(group);
    await group.command("genOnOff", "on", {});
    await new Promise((resolve) => setTimeout(resolve, 500));
    say("group", [offByGroup, (await endpoint.read("genOnOff", ["onOff"])).onOff]);

    await controller.permitJoin(0);
    const coded = interviewed(codedIeee);
    await controller.addInstallCode(`${codedIeee.slice(2)}|${installCode}`); // as on a label
    await controller.permitJoin(60);
    say("install code", await coded);

    await controller.backup();
    const backup = JSON.parse(readFileSync(join(folder, "backup.json"), "utf8"));
    say("backup", [backup.metadata.format, backup.pan_id]);

    await plug.removeFromNetwork();
    say("removed", controller.getDeviceByIeeeAddr(plugIeee) === undefined);
    await controller.stop();
    say("stop", true);
} catch (error) {
    say("error", String(error?.stack ?? error));
}
process.exit(0);
